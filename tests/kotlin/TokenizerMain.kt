package tokenizing

import java.io.File
import ktransfer.Tokenizer

/** A `tokenizer.json` and a file of texts, one a line in UTF-16 as hexadecimal digits: prints the ids of each. */
fun main(given: Array<String>) {
    val tokenizer = Tokenizer(File(given[0]))
    for (line in File(given[1]).readLines()) {
        val text = String(line.chunked(4) { it.toString().toInt(16).toChar() }.toCharArray())
        println(tokenizer.encode(text).joinToString(" "))
    }
}
