package org.json

/** Of Android's class what the snippet uses, for names that occur once. */
class JSONObject(private val text: String) {
    fun has(name: String) = "\"$name\":" in text

    fun getJSONArray(name: String) =
        JSONArray(Regex("\"$name\": *\\[([^]]*)]").find(text)!!.groupValues[1].split(","))

    fun getJSONObject(name: String) = JSONObject(text.substringAfter("\"$name\":"))

    fun getString(name: String) = Regex("\"$name\": *\"?([^\",}]*)").find(text)!!.groupValues[1]

    fun getInt(name: String) = getString(name).toInt()

    fun getBoolean(name: String) = getString(name).toBooleanStrict()
}

/** Of Android's class what the snippet uses: numbers, at least one. */
class JSONArray(private val values: List<String>) {
    fun length() = values.size

    fun getDouble(index: Int) = values[index].trim().toDouble()
}
