import android.graphics.Bitmap
import java.io.File
import javax.imageio.ImageIO
import ktransfer.Classifier

/** An image, then models: prints what each answers. */
fun main(given: Array<String>) {
    val image = ImageIO.read(File(given[0]))
    val pixels = image.getRGB(0, 0, image.width, image.height, null, 0, image.width)
    for (model in given.drop(1)) {
        Classifier(File(model)).use { classifier ->
            val answers = classifier.classify(Bitmap(image.width, image.height, pixels))
            println(answers.joinToString("|") { "${it.label}=${it.probability}${if (it.chosen) "" else "?"}" })
        }
    }
}
