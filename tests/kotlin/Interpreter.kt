package org.tensorflow.lite

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.MappedByteBuffer

enum class DataType { FLOAT32, UINT8 }

class Tensor(private val type: DataType, private val elements: Int) {
    fun dataType() = type

    fun numBytes() = if (type == DataType.UINT8) elements else 4 * elements
}

/** Of LiteRT's class what the snippet uses; keeps its input, and answers 0.1, 0.2, ... */
class Interpreter(model: ByteBuffer) {
    private val tensor =
        Tensor(DataType.valueOf(System.getProperty("dtype")), System.getProperty("elements").toInt())

    init {
        require(model is MappedByteBuffer || model.isDirect && model.order() == ByteOrder.nativeOrder())
    }

    fun getInputTensor(index: Int) = tensor.also { require(index == 0) }

    fun run(input: Any, output: Any) {
        val bytes = ByteArray((input as ByteBuffer).remaining())
        require(bytes.size == tensor.numBytes())
        File(System.getProperty("input")).appendBytes(bytes.also { input.get(it) })
        val answers = (output as Array<*>)[0] as FloatArray
        for (index in answers.indices) answers[index] = (index + 1) / 10f
    }

    fun close() = Unit
}
