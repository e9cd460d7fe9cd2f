import CoreGraphics
import Foundation
import TensorFlowLite

public enum ClassifierError: Error {
    case notAClassifier(String)
    case imageCannotBeDrawn
}

/// Classifies images with a TFLite artifact of ktransfer; for one thread at a time.
public final class Classifier {
    /// `chosen` are the labels that the image has: the most probable one, or of a multi-label model any number.
    public typealias Answer = (label: String, probability: Float, chosen: Bool)

    public let labels: [String]
    private let sizing: Sizing
    private let thresholds: [Double]?
    private let interpreter: Interpreter

    public init(path: String) throws {
        let files = try zippedFiles(Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped))
        guard let names = files["labels.txt"], let facts = files["extra.json"] else {
            throw ClassifierError.notAClassifier("Expected labels.txt, extra.json, got \(files.keys). Export the run again.")
        }
        labels = String(decoding: names, as: UTF8.self).split(separator: "\n").map(String.init)
        let decoded = try JSONDecoder().decode(Facts.self, from: facts)
        sizing = decoded.preprocessing
        thresholds = try decoded.checkedThresholds(count: labels.count)
        interpreter = try Interpreter(modelPath: path)
        try interpreter.allocateTensors()
    }

    /// Every label, the chosen ones first, each part by probability. The image has to be upright: a `CGImage` knows
    /// no orientation.
    public func classify(_ image: CGImage) throws -> [Answer] {
        let levels = try sizing.sized(image)
        let floats = levels.map { Float($0) }
        let bytes = try interpreter.input(at: 0).dataType == .uInt8
        try interpreter.copy(bytes ? Data(levels) : floats.withUnsafeBytes { Data($0) }, toInputAt: 0)
        try interpreter.invoke()
        let output = try interpreter.output(at: 0).data
        let probabilities = output.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let best = probabilities.indices.max { probabilities[$0] < probabilities[$1] }
        return labels.indices.map { index -> Answer in
            let reached = thresholds.map { Double(probabilities[index]) >= $0[index] }
            return (label: labels[index], probability: probabilities[index], chosen: reached ?? (index == best))
        }.sorted { $0.chosen != $1.chosen ? $0.chosen : $0.probability > $1.probability }
    }
}

/// The files zipped onto the end of a model, by name. By hand: Foundation reads no zip.
func zippedFiles(_ model: Data) throws -> [String: Data] {
    func short(_ at: Int) -> Int { Int(model[at]) | Int(model[at + 1]) << 8 }
    func long(_ at: Int) -> Int { short(at) | short(at + 2) << 16 }
    let last = model.count - 22  // the end record has 22 bytes, and a comment after it
    let candidates = stride(from: last, through: max(0, last - 0xffff), by: -1)
    guard let end = candidates.first(where: { long($0) == 0x0605_4b50 && $0 + short($0 + 20) == last }) else {
        throw ClassifierError.notAClassifier("Expected files zipped onto the model, got none. Export the run again.")
    }
    var files: [String: Data] = [:]
    var entry = long(end + 16)
    for _ in 0..<short(end + 10) {
        guard long(entry) == 0x0201_4b50, short(entry + 10) == 0 else {
            throw ClassifierError.notAClassifier("Expected files stored in a zip, got others. Export the run again.")
        }
        let name = String(decoding: model[entry + 46..<entry + 46 + short(entry + 28)], as: UTF8.self)
        let header = long(entry + 42)
        let start = header + 30 + short(header + 26) + short(header + 28)
        files[name] = model.subdata(in: start..<start + long(entry + 24))
        entry += 46 + short(entry + 28) + short(entry + 30) + short(entry + 32)
    }
    return files
}

private struct Facts: Decodable {
    let preprocessing: Sizing
    let task: String?  // earlier files do not say
    let thresholds: [Double]?

    /// The least probability of each label with which it is chosen; nil where an image has one label.
    func checkedThresholds(count: Int) throws -> [Double]? {
        let task = self.task ?? "single_label"
        if task == "single_label" { return nil }
        guard task == "multi_label" else {
            throw ClassifierError.notAClassifier("Expected single_label or multi_label, got \(task)")
        }
        let found = thresholds ?? Array(repeating: 0.5, count: count)  // of a run that was never evaluated
        guard found.count == count else {
            throw ClassifierError.notAClassifier("Expected \(count) thresholds, got \(found.count)")
        }
        return found
    }
}

/// How the model was trained to see images.
struct Sizing: Decodable {
    let height: Int, width: Int, mode: String, interpolation: String, antialias: Bool

    /// The levels 0-255 of `(height, width, 3)`, RGB.
    func sized(_ image: CGImage) throws -> [UInt8] {
        if interpolation == "mediapipe" { return try warped(image) }
        return try drawn(image, width: width, height: height)
    }

    /// As MediaPipe sizes images: bilinear on a grid of 32 places a pixel, from the corner of the first on.
    private func warped(_ image: CGImage) throws -> [UInt8] {
        let pixels = try drawn(image, width: image.width, height: image.height)
        func place(_ at: Int, _ size: Int, _ count: Int) -> Int {
            Int((Double(at) * Double(size) * 32 / Double(count)).rounded(.toNearestOrEven))
        }
        var found: [UInt8] = []
        found.reserveCapacity(3 * width * height)
        for y in 0..<height {
            let row = place(y, image.height, height)
            let (top, down) = (row / 32, row % 32)
            let bottom = min(top + 1, image.height - 1)
            for x in 0..<width {
                let column = place(x, image.width, width)
                let (left, across) = (column / 32, column % 32)
                let right = min(left + 1, image.width - 1)
                for color in 0..<3 {
                    func level(_ y: Int, _ x: Int) -> Int { Int(pixels[3 * (y * image.width + x) + color]) }
                    let above = level(top, left) * (32 - across) + level(top, right) * across
                    let below = level(bottom, left) * (32 - across) + level(bottom, right) * across
                    found.append(UInt8((above * (32 - down) + below * down + 512) / 1024))
                }
            }
        }
        return found
    }

    private func drawn(_ image: CGImage, width: Int, height: Int) throws -> [UInt8] {
        guard let context = CGContext(
            data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
            space: CGColorSpace(name: CGColorSpace.sRGB)!, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
        ), let pixels = context.data?.assumingMemoryBound(to: UInt8.self) else {
            throw ClassifierError.imageCannotBeDrawn
        }
        let full = CGRect(x: 0, y: 0, width: width, height: height)
        context.setFillColor(CGColor(red: 0, green: 0, blue: 0, alpha: 1))
        context.fill(full)  // the bars of `pad`
        context.interpolationQuality = antialias ? .high : .low
        var (across, down) = (full.width / CGFloat(image.width), full.height / CGFloat(image.height))
        if mode == "crop" { (across, down) = (max(across, down), max(across, down)) }
        if mode == "pad" { (across, down) = (min(across, down), min(across, down)) }
        let size = CGSize(width: across * CGFloat(image.width), height: down * CGFloat(image.height))
        let corner = CGPoint(x: (full.width - size.width) / 2, y: (full.height - size.height) / 2)
        context.draw(image, in: CGRect(origin: corner, size: size))
        return withExtendedLifetime(context) {  // whose memory the pixels are
            (0..<3 * width * height).map { pixels[$0 / 3 * 4 + $0 % 3] }
        }
    }
}
