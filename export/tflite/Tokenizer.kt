package ktransfer

import java.io.File
import java.text.Normalizer
import java.util.Locale
import java.util.regex.Matcher
import java.util.regex.Pattern
import org.json.JSONObject

/**
 * Ids of texts by the `tokenizer.json` of a run, as in training: WordPiece, byte pairs and SentencePiece's unigram.
 *
 * For one thread at a time. A vocabulary of more than `mostPieces` is refused: it takes a phone's memory.
 */
class Tokenizer(json: String, mostPieces: Int = 100_000) {
    constructor(file: File, mostPieces: Int = 100_000) : this(file.readText(), mostPieces)

    private val added: Map<String, Int>
    private val special: Pattern?
    private val normalize: (String) -> String
    private val split: (List<String>) -> List<String>
    private val model: (String) -> List<Int>
    private val before: List<Int>
    private val after: List<Int>
    private val longest: Int
    private val padding: JSONObject?

    init {
        val file = JSONObject(json)
        added = steps(file, "added_tokens").associate { token ->
            val plain = listOf("single_word", "lstrip", "rstrip", "normalized").none { token.getBoolean(it) }
            require(plain) { "Expected added tokens that are taken as they are, got others. Export again." }
            token.getString("content") to token.getInt("id")
        }
        val names = added.keys.sortedByDescending { it.length }.joinToString("|") { Pattern.quote(it) }
        special = if (added.isEmpty()) null else Pattern.compile(names)
        normalize = normalizer(file.getJSONObject("normalizer"))
        split = if (file.isNull("pre_tokenizer")) { { it } } else splitter(file.getJSONObject("pre_tokenizer"))
        model = model(file.getJSONObject("model"), mostPieces)
        val packing = file.getJSONObject("post_processor")
        val parts = packing.getJSONArray("single").let { list -> List(list.length()) { list.getJSONObject(it) } }
        val place = parts.indexOfFirst { it.has("Sequence") }
        val tokens = packing.getJSONObject("special_tokens")
        fun ids(range: IntRange) = range.flatMap { index ->
            val name = parts[index].getJSONObject("SpecialToken").getString("id")
            tokens.getJSONObject(name).getJSONArray("ids").let { found -> List(found.length()) { found.getInt(it) } }
        }
        before = ids(0 until place)
        after = ids(place + 1..parts.lastIndex)
        longest = file.getJSONObject("truncation").getInt("max_length")
        padding = if (file.isNull("padding")) null else file.getJSONObject("padding")
    }

    /** The ids of a text, special ones included, cut to the model's length; padded where every text has one length. */
    fun encode(text: String): IntArray {
        val seen = minOf(text.codePointCount(0, text.length), CHARACTERS) // no more is looked at, as in training
        val given = text.substring(0, text.offsetByCodePoints(0, seen))
        val parts = if (special == null) listOf(given) else cut(given, special, kept = true)
        val ids = parts.asSequence().flatMap { part -> added[part]?.let { sequenceOf(it) } ?: pieces(part) }
        val whole = before + ids.take(longest - before.size - after.size) + after
        val size = padding?.getJSONObject("strategy")?.getInt("Fixed") ?: whole.size
        return IntArray(size) { whole.getOrElse(it) { padding!!.getInt("pad_id") } }
    }

    private fun pieces(text: String): Sequence<Int> =
        split(listOf(normalize(text))).asSequence().filter { it.isNotEmpty() }.flatMap { model(it) }

    /** What a model of one length takes: ids padded with `padId`, and the mask, 1 on tokens and 0 on padding. */
    fun padded(text: String, length: Int, padId: Int): Pair<IntArray, IntArray> {
        val ids = encode(text)
        require(ids.size <= length) { "Expected a length of at least ${ids.size}, got $length. Take the model's." }
        return IntArray(length) { ids.getOrElse(it) { padId } } to IntArray(length) { if (it < ids.size) 1 else 0 }
    }
}

private const val CHARACTERS = 100_000

private fun steps(given: JSONObject, name: String): List<JSONObject> =
    given.getJSONArray(name).let { list -> List(list.length()) { list.getJSONObject(it) } }

private fun normalizer(step: JSONObject): (String) -> String = when (val type = step.getString("type")) {
    "Sequence" -> steps(step, "normalizers").map(::normalizer).let { all ->
        { text -> all.fold(text) { found, next -> next(found) } }
    }
    "Replace" -> replacement(step.getJSONObject("pattern"), step.getString("content"))
    "NFD" -> { text -> Normalizer.normalize(text, Normalizer.Form.NFD) }
    "NFKC" -> { text -> Normalizer.normalize(text, Normalizer.Form.NFKC) }
    "Lowercase" -> { text -> text.lowercase(Locale.ROOT) }
    "Prepend" -> step.getString("prepend").let { start -> { if (it.isEmpty()) it else start + it } }
    else -> throw IllegalArgumentException("Expected a normalizer that ktransfer writes, got $type. Export again.")
}

private fun replacement(pattern: JSONObject, content: String): (String) -> String {
    if (pattern.has("String")) return pattern.getString("String").let { plain -> { it.replace(plain, content) } }
    val found = Pattern.compile(pattern.getString("Regex"))
    val written = Matcher.quoteReplacement(content)
    return { found.matcher(it).replaceAll(written) }
}

private fun splitter(step: JSONObject): (List<String>) -> List<String> = when (val type = step.getString("type")) {
    "Sequence" -> steps(step, "pretokenizers").map(::splitter).let { all ->
        { words -> all.fold(words) { found, next -> next(found) } }
    }
    "Split" -> {
        val found = Pattern.compile(step.getJSONObject("pattern").getString("Regex"))
        val kept = step.getString("behavior") == "Isolated"
        val cut: (List<String>) -> List<String> = { words -> words.flatMap { cut(it, found, kept) } }
        cut
    }
    "ByteLevel" -> { words -> words.map(::asBytes) }
    else -> throw IllegalArgumentException("Expected a pre-tokenizer that ktransfer writes, got $type. Export again.")
}

private fun cut(text: String, pattern: Pattern, kept: Boolean): List<String> {
    val parts = mutableListOf<String>()
    val found = pattern.matcher(text)
    var start = 0
    while (found.find()) {
        if (found.start() > start) parts += text.substring(start, found.start())
        if (kept && found.end() > found.start()) parts += found.group()
        start = found.end()
    }
    if (start < text.length) parts += text.substring(start)
    return parts
}

/** UTF-8 as GPT-2 writes it: a printable character for each byte. */
private fun asBytes(word: String) = String(word.encodeToByteArray().map { BYTES[it.toInt() and 0xff] }.toCharArray())

private val BYTES: CharArray = CharArray(256).also { found ->
    var next = 256
    for (byte in 0..255) {
        val printable = byte in 0x21..0x7e || byte in 0xa1..0xac || byte in 0xae..0xff
        found[byte] = if (printable) byte.toChar() else (next++).toChar()
    }
}

private fun model(given: JSONObject, mostPieces: Int): (String) -> List<Int> {
    val type = given.getString("type")
    require(type in setOf("WordPiece", "BPE", "Unigram")) {
        "Expected WordPiece, BPE or Unigram, got $type. Export again."
    }
    val size = if (type == "Unigram") given.getJSONArray("vocab").length() else given.getJSONObject("vocab").length()
    require(size <= mostPieces) {
        "Expected a vocabulary of up to $mostPieces pieces, got $size. Choose a smaller backbone, or pass mostPieces."
    }
    return when (type) {
        "WordPiece" -> wordPiece(given)
        "BPE" -> bytePairs(given)
        else -> unigram(given)
    }
}

private fun vocabulary(given: JSONObject): Map<String, Int> =
    given.getJSONObject("vocab").let { all -> all.keys().asSequence().associateWith { all.getInt(it) } }

/** The longest piece first, from the left. */
private fun wordPiece(given: JSONObject): (String) -> List<Int> {
    val pieces = vocabulary(given)
    val unknown = listOf(pieces.getValue(given.getString("unk_token")))
    val prefix = given.getString("continuing_subword_prefix")
    val most = given.getInt("max_input_chars_per_word")
    return fun(word: String): List<Int> {
        if (word.length > most) return unknown
        val ids = mutableListOf<Int>()
        var start = 0
        while (start < word.length) {
            val before = if (start > 0) prefix else ""
            val end = (word.length downTo start + 1).firstOrNull { before + word.substring(start, it) in pieces }
            ids += pieces.getValue(before + word.substring(start, end ?: return unknown))
            start = end
        }
        return ids
    }
}

/** Merges of two neighbours, the earliest learnt first, and of these the leftmost. */
private fun bytePairs(given: JSONObject): (String) -> List<Int> {
    val pieces = vocabulary(given)
    val merges = given.getJSONArray("merges")
    val ranks = HashMap<Pair<String, String>, Int>(2 * merges.length())
    for (index in 0 until merges.length()) {
        val pair = merges.getJSONArray(index)
        ranks[pair.getString(0) to pair.getString(1)] = index
    }
    return { word ->
        val parts = word.map { it.toString() }.toMutableList()
        while (true) {
            var best = -1
            var rank = Int.MAX_VALUE
            for (at in 0 until parts.lastIndex) {
                val found = ranks[parts[at] to parts[at + 1]] ?: continue
                if (found < rank) { rank = found; best = at }
            }
            if (best < 0) break
            parts[best] += parts.removeAt(best + 1)
        }
        parts.mapNotNull { pieces[it] }
    }
}

/** The most probable way to cut a text into pieces (Viterbi); unknown characters in a row are one piece. */
private fun unigram(given: JSONObject): (String) -> List<Int> {
    val all = given.getJSONArray("vocab")
    val scores = DoubleArray(all.length()) { all.getJSONArray(it).getDouble(1) }
    val pieces = HashMap<String, Int>(2 * scores.size)
    for (index in scores.indices) pieces[all.getJSONArray(index).getString(0)] = index
    val unknown = given.getInt("unk_id")
    val unknownScore = scores.min() - 10
    val longest = pieces.keys.maxOf { it.length }
    return fun(text: String): List<Int> {
        val best = DoubleArray(text.length + 1) { Double.NEGATIVE_INFINITY }.also { it[0] = 0.0 }
        val from = IntArray(text.length + 1) { -1 }
        val id = IntArray(text.length + 1)
        var start = 0
        while (start < text.length) {
            val next = start + Character.charCount(text.codePointAt(start))
            fun take(end: Int, piece: Int, score: Double) {
                if (from[end] < 0 || best[start] + score > best[end]) {
                    best[end] = best[start] + score
                    from[end] = start
                    id[end] = piece
                }
            }
            for (end in start + 1..minOf(start + longest, text.length)) {
                val piece = pieces[text.substring(start, end)] ?: continue
                take(end, piece, scores[piece])
            }
            if (text.substring(start, next) !in pieces) take(next, unknown, unknownScore)
            start = next
        }
        val ids = mutableListOf<Int>()
        var end = text.length
        while (end > 0) {
            if (id[end] != unknown || ids.lastOrNull() != unknown) ids += id[end]
            end = from[end]
        }
        return ids.reversed()
    }
}
