package org.json

/** Of Android's class what the snippet uses, for names that occur once. */
class JSONObject(private val text: String) {
    fun getJSONObject(name: String) = JSONObject(text.substringAfter("\"$name\":"))

    fun getString(name: String) = Regex("\"$name\": *\"?([^\",}]*)").find(text)!!.groupValues[1]

    fun getInt(name: String) = getString(name).toInt()

    fun getBoolean(name: String) = getString(name).toBooleanStrict()
}
