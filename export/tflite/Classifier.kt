package ktransfer

import android.graphics.Bitmap
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel.MapMode
import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.roundToInt
import org.json.JSONObject
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

/** `chosen` are the labels that the image has: the most probable one, or of a multi-label model any number. */
data class Answer(val label: String, val probability: Float, val chosen: Boolean)

/** Classifies images with a TFLite artifact of ktransfer, mapped into memory; for one thread at a time. */
class Classifier(model: ByteBuffer) : AutoCloseable {
    constructor(file: File) :
        this(RandomAccessFile(file, "r").use { it.channel.map(MapMode.READ_ONLY, 0, it.length()) })

    private val files = zippedFiles(model)
    private val facts = JSONObject(files.getValue("extra.json"))
    private val sizing = Sizing(facts.getJSONObject("preprocessing"))
    private val interpreter = Interpreter(model)
    val labels: List<String> = files.getValue("labels.txt").trimEnd('\n').split('\n')
    private val thresholds = thresholds(facts, labels.size)

    /** Every label, the chosen ones first, each part by probability. The image has to be upright, and ARGB_8888. */
    fun classify(image: Bitmap): List<Answer> {
        val tensor = interpreter.getInputTensor(0)
        val input = ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder())
        val bytes = tensor.dataType() == DataType.UINT8
        for (level in sizing.sized(image)) {
            if (bytes) input.put(level.toByte()) else input.putFloat(level.toFloat())
        }
        input.rewind()
        val probabilities = arrayOf(FloatArray(labels.size))
        interpreter.run(input, probabilities)
        val best = probabilities[0].indices.maxByOrNull { probabilities[0][it] }
        val answers = labels.zip(probabilities[0].asList()).mapIndexed { index, (label, probability) ->
            Answer(label, probability, thresholds?.let { probability >= it[index] } ?: (index == best))
        }
        return answers.sortedWith(compareByDescending<Answer> { it.chosen }.thenByDescending { it.probability })
    }

    override fun close() = interpreter.close()
}

/** The least probability of each label with which it is chosen; null where an image has one label. */
internal fun thresholds(facts: JSONObject, count: Int): List<Double>? {
    val task = if (facts.has("task")) facts.getString("task") else "single_label" // earlier files do not say
    if (task == "single_label") return null
    require(task == "multi_label") { "Expected a task of single_label or multi_label, got $task." }
    if (!facts.has("thresholds")) return List(count) { 0.5 } // of a run that was never evaluated
    val found = facts.getJSONArray("thresholds")
    require(found.length() == count) { "Expected $count thresholds, one a label, got ${found.length()}." }
    return List(count) { found.getDouble(it) }
}

/** The texts zipped onto a model's end, by name. By hand: newer Androids' ZipFile refuses such a file. */
internal fun zippedFiles(model: ByteBuffer): Map<String, String> {
    val file = model.duplicate().order(ByteOrder.LITTLE_ENDIAN)
    fun short(at: Int) = file.getShort(at).toInt() and 0xffff
    fun text(at: Int, size: Int) = ByteArray(size).also { file.position(at); file.get(it) }.decodeToString()
    val last = file.limit() - 22 // the end record has 22 bytes, and a comment after it
    val end = (last downTo max(0, last - 0xffff)).first {
        file.getInt(it) == 0x06054b50 && it + short(it + 20) == last
    }
    var entry = file.getInt(end + 16)
    return (1..short(end + 10)).associate {
        require(file.getInt(entry) == 0x02014b50 && short(entry + 10) == 0) { "Expected stored files." }
        val name = text(entry + 46, short(entry + 28))
        val header = file.getInt(entry + 42)
        val content = text(header + 30 + short(header + 26) + short(header + 28), file.getInt(entry + 24))
        entry += 46 + short(entry + 28) + short(entry + 30) + short(entry + 32)
        name to content
    }
}

/** Sizes images as the model was trained on them: as Pillow does. Android's own resizing does not average. */
internal class Sizing(facts: JSONObject) {
    private val height = facts.getInt("height")
    private val width = facts.getInt("width")
    private val mode = facts.getString("mode")
    private val antialias = facts.getBoolean("antialias")
    private val cubic = facts.getString("interpolation") == "bicubic"
    private val mediaPipe = facts.getString("interpolation") == "mediapipe"

    init {
        val known = cubic || mediaPipe || facts.getString("interpolation") == "bilinear"
        require(known) { "Expected bilinear or bicubic interpolation, got $facts. Export the run again." }
    }

    /** The levels 0-255 of `(height, width, 3)`, RGB. */
    fun sized(image: Bitmap): IntArray {
        if (mediaPipe) return warped(image)
        val columns = axis(image.width, max(image.height * width / height, 1), width)
        val rows = axis(image.height, max(image.width * height / width, 1), height)
        val line = IntArray(image.width)
        val narrow = Array(image.height) { y ->
            image.getPixels(line, 0, image.width, 0, y, image.width, 1)
            IntArray(3 * width) { i -> columns[i / 3].level { x -> line[x] shr (16 - 8 * (i % 3)) and 0xff } }
        }
        return IntArray(3 * width * height) { i ->
            rows[i / (3 * width)].level { y -> narrow[y][i % (3 * width)] }
        }
    }

    /** As MediaPipe sizes images: bilinear on a grid of 32 places a pixel, from the corner of the first on. */
    private fun warped(image: Bitmap): IntArray {
        fun places(size: Int, count: Int) = IntArray(count) { Math.rint(it.toDouble() * size * 32 / count).toInt() }
        val (columns, rows) = places(image.width, width) to places(image.height, height)
        val lines = Array(2) { IntArray(image.width) }
        val found = IntArray(3 * width * height)
        for (y in 0 until height) {
            val (top, down) = rows[y] / 32 to rows[y] % 32
            for (line in 0..1) {
                val from = min(top + line, image.height - 1)
                image.getPixels(lines[line], 0, image.width, 0, from, image.width, 1)
            }
            for (x in 0 until width) {
                val (left, across) = columns[x] / 32 to columns[x] % 32
                val right = min(left + 1, image.width - 1)
                for (color in 0..2) {
                    fun level(line: Int, at: Int) = lines[line][at] shr (16 - 8 * color) and 0xff
                    fun across(line: Int) = level(line, left) * (32 - across) + level(line, right) * across
                    found[3 * (y * width + x) + color] = (across(0) * (32 - down) + across(1) * down + 512) / 1024
                }
            }
        }
        return found
    }

    private class Taps(val first: Int, val weights: FloatArray) {
        inline fun level(value: (Int) -> Int): Int {
            var sum = 0f
            for (i in weights.indices) sum += weights[i] * value(first + i)
            return sum.roundToInt().coerceIn(0, 255)
        }
    }

    /** What each of `count` places takes of a side of `size` pixels; `fit` would have the target's shape. */
    private fun axis(size: Int, fit: Int, count: Int): List<Taps> {
        val start = when (mode) {
            "crop" -> max(size - fit, 0) / 2
            "pad" -> -(max(fit - size, 0) / 2) // bars: taps out there are black, so left out after the sum
            else -> 0
        }
        val scale = (if (mode == "crop") min(size, fit) else size - 2 * start) / count.toDouble()
        val stretch = if (antialias) max(scale, 1.0) else 1.0
        val reach = (if (cubic) 2 else 1) * stretch
        return List(count) { place ->
            val centre = start + (place + 0.5) * scale
            val first = max(floor(centre - reach + 0.5).toInt(), min(start, 0))
            val last = min(floor(centre + reach + 0.5).toInt(), size - min(start, 0))
            fun weight(at: Int) = kernel(abs((at + 0.5 - centre) / stretch))
            val sum = (first until last).sumOf(::weight)
            val inside = max(first, 0) until min(last, size)
            Taps(inside.first, inside.map { (weight(it) / sum).toFloat() }.toFloatArray())
        }
    }

    private fun kernel(x: Double) = when {
        !cubic -> max(1 - x, 0.0)
        x < 1 -> (1.5 * x - 2.5) * x * x + 1
        x < 2 -> ((-0.5 * x + 2.5) * x - 4) * x + 2
        else -> 0.0
    }
}
