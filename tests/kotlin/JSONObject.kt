package org.json

/** Of Android's class what the snippets use. */
class JSONObject internal constructor(private val values: Map<String, Any?>) {
    constructor(text: String) : this(Reader(text).whole())

    fun has(name: String) = name in values
    fun isNull(name: String) = values[name] == null
    fun length() = values.size
    fun keys(): Iterator<String> = values.keys.iterator()
    fun getJSONArray(name: String) = values.getValue(name) as JSONArray
    fun getJSONObject(name: String) = values.getValue(name) as JSONObject
    fun getString(name: String) = values.getValue(name) as String
    fun getInt(name: String) = (values.getValue(name) as Double).toInt()
    fun getBoolean(name: String) = values.getValue(name) as Boolean
}

/** Of Android's class what the snippets use. */
class JSONArray internal constructor(private val values: List<Any?>) {
    fun length() = values.size
    fun getJSONArray(index: Int) = values[index] as JSONArray
    fun getJSONObject(index: Int) = values[index] as JSONObject
    fun getString(index: Int) = values[index] as String
    fun getInt(index: Int) = (values[index] as Double).toInt()
    fun getDouble(index: Int) = values[index] as Double
}

private class Reader(private val text: String) {
    private var at = 0

    fun whole(): Map<String, Any?> = pairs().also { blanks(); check(at == text.length) { "more at $at" } }

    private fun blanks() { while (at < text.length && text[at] in " \t\r\n") at++ }

    private fun next(expected: Char) {
        blanks()
        check(text[at++] == expected) { "not $expected at ${at - 1}" }
    }

    private fun peek(): Char { blanks(); return text[at] }

    private fun <T> several(open: Char, close: Char, one: () -> T): List<T> {
        next(open)
        val found = mutableListOf<T>()
        if (peek() != close) do found += one() while (peek() == ',' && at++ >= 0)
        next(close)
        return found
    }

    private fun pairs() = several('{', '}') { string().also { next(':') } to value() }.toMap(LinkedHashMap())

    private fun value(): Any? = when (peek()) {
        '{' -> JSONObject(pairs())
        '[' -> JSONArray(several('[', ']', ::value))
        '"' -> string()
        else -> {
            val start = at
            while (at < text.length && text[at] !in ",]} \t\r\n") at++
            when (val word = text.substring(start, at)) {
                "null" -> null
                "true", "false" -> word.toBoolean()
                else -> word.toDouble()
            }
        }
    }

    private fun string(): String {
        next('"')
        val found = StringBuilder()
        while (text[at] != '"') {
            if (text[at] != '\\') { found.append(text[at++]); continue }
            when (val mark = text[at + 1]) {
                'u' -> { found.append(text.substring(at + 2, at + 6).toInt(16).toChar()); at += 6 }
                else -> { found.append(ESCAPED[mark] ?: mark); at += 2 }
            }
        }
        at++
        return found.toString()
    }

    private companion object {
        val ESCAPED = mapOf('n' to '\n', 't' to '\t', 'r' to '\r', 'b' to '\b', 'f' to '\u000c')
    }
}
