package android.graphics

/** Of Android's class what the snippet uses; pixels are ARGB. */
class Bitmap(val width: Int, val height: Int, private val pixels: IntArray) {
    fun getPixels(into: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        for (row in 0 until height) {
            val start = (y + row) * this.width + x
            pixels.copyInto(into, offset + row * stride, start, start + width)
        }
    }
}
