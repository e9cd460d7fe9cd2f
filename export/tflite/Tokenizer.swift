import Foundation

public enum TokenizerError: Error {
    case notRead(String)
}

/// Ids of texts by the `tokenizer.json` of a run, as in training: WordPiece, byte pairs and SentencePiece's unigram.
///
/// A vocabulary of more than `mostPieces` is refused: it takes a phone's memory.
public final class Tokenizer {
    private typealias Facts = [String: Any]

    private let added: [String: Int]
    private let special: NSRegularExpression?
    private let normalize: (String) -> String
    private let split: ([String]) -> [String]
    private let model: (String) -> [Int]
    private let before: [Int]
    private let after: [Int]
    private let longest: Int
    private let padding: (length: Int, id: Int)?

    public init(path: String, mostPieces: Int = 100_000) throws {
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        let file: Facts = try typed(JSONSerialization.jsonObject(with: data))
        var tokens: [String: Int] = [:]
        for token: Facts in try list(file, "added_tokens") {
            let changed = ["single_word", "lstrip", "rstrip", "normalized"].contains { token[$0] as? Bool ?? true }
            if changed { throw TokenizerError.notRead("Expected added tokens that are taken as they are. Export again.") }
            tokens[try typed(token["content"])] = try typed(token["id"]) as Int
        }
        added = tokens
        let names = tokens.keys.sorted { $0.utf16.count > $1.utf16.count }
        special = names.isEmpty ? nil : try NSRegularExpression(
            pattern: names.map(NSRegularExpression.escapedPattern(for:)).joined(separator: "|"))
        normalize = try normalizer(typed(file["normalizer"]))
        split = try (file["pre_tokenizer"] as? Facts).map(splitter) ?? { $0 }
        model = try pieces(typed(file["model"]), mostPieces)
        let packing: Facts = try typed(file["post_processor"])
        let parts: [Facts] = try list(packing, "single")
        let ofName: [String: Facts] = try typed(packing["special_tokens"])
        let place = parts.firstIndex { $0["Sequence"] != nil } ?? parts.count
        func ids(_ range: Range<Int>) throws -> [Int] {
            try range.flatMap { index -> [Int] in
                let token: Facts = try typed(parts[index]["SpecialToken"])
                return try typed(ofName[typed(token["id"])]?["ids"])
            }
        }
        before = try ids(0..<place)
        after = try ids(min(place + 1, parts.count)..<parts.count)
        let truncation: Facts = try typed(file["truncation"])
        longest = try typed(truncation["max_length"])
        if let filled = file["padding"] as? Facts {
            let strategy: [String: Int] = try typed(filled["strategy"])
            padding = (try typed(strategy["Fixed"]), try typed(filled["pad_id"]))
        } else {
            padding = nil
        }
    }

    /// The ids of a text, special ones included, cut to the model's length; padded where every text has one length.
    public func encode(_ text: String) -> [Int32] {
        var given = String.UnicodeScalarView()
        given.append(contentsOf: text.unicodeScalars.prefix(100_000))  // no more is looked at, as in training
        let whole = String(given)
        let room = longest - before.count - after.count
        var ids: [Int] = []
        for part in special.map({ cut(whole, $0, kept: true) }) ?? [whole] where ids.count < room {
            if let id = added[part] {
                ids.append(id)
                continue
            }
            for word in split([normalize(part)]) where !word.isEmpty && ids.count < room { ids += model(word) }
        }
        ids = before + ids.prefix(room) + after
        if let padding { ids += Array(repeating: padding.id, count: max(0, padding.length - ids.count)) }
        return ids.map(Int32.init)
    }
}

private func typed<T>(_ value: Any?) throws -> T {
    guard let found = value as? T else {
        throw TokenizerError.notRead("Expected a tokenizer.json that ktransfer wrote. Export again.")
    }
    return found
}

private func list(_ given: [String: Any], _ name: String) throws -> [[String: Any]] { try typed(given[name]) }

private func normalizer(_ step: [String: Any]) throws -> (String) -> String {
    switch step["type"] as? String {
    case "Sequence":
        let all = try list(step, "normalizers").map(normalizer)
        return { text in all.reduce(text) { $1($0) } }
    case "Replace":
        let pattern: [String: String] = try typed(step["pattern"])
        let content: String = try typed(step["content"])
        if let plain = pattern["String"] {
            return { $0.replacingOccurrences(of: plain, with: content, options: .literal) }
        }
        let found = try NSRegularExpression(pattern: typed(pattern["Regex"]))
        let written = NSRegularExpression.escapedTemplate(for: content)
        return { text in
            let whole = NSRange(location: 0, length: text.utf16.count)
            return found.stringByReplacingMatches(in: text, range: whole, withTemplate: written)
        }
    case "NFD": return { $0.decomposedStringWithCanonicalMapping }
    case "NFKC": return { $0.precomposedStringWithCompatibilityMapping }
    case "Lowercase": return { $0.lowercased() }
    case "Prepend":
        let start: String = try typed(step["prepend"])
        return { $0.isEmpty ? $0 : start + $0 }
    default: throw TokenizerError.notRead("Expected a normalizer that ktransfer writes. Export again.")
    }
}

private func splitter(_ step: [String: Any]) throws -> ([String]) -> [String] {
    switch step["type"] as? String {
    case "Sequence":
        let all = try list(step, "pretokenizers").map(splitter)
        return { words in all.reduce(words) { $1($0) } }
    case "Split":
        let pattern: [String: String] = try typed(step["pattern"])
        let found = try NSRegularExpression(pattern: typed(pattern["Regex"]))
        let kept = step["behavior"] as? String == "Isolated"
        return { words in words.flatMap { cut($0, found, kept: kept) } }
    case "ByteLevel":
        return { words in words.map { word in String(word.utf8.map { ofByte[Int($0)] }) } }
    default: throw TokenizerError.notRead("Expected a pre-tokenizer that ktransfer writes. Export again.")
    }
}

private func cut(_ text: String, _ pattern: NSRegularExpression, kept: Bool) -> [String] {
    let whole = text as NSString
    var parts: [String] = []
    var start = 0
    for match in pattern.matches(in: text, range: NSRange(location: 0, length: whole.length)) {
        let found = match.range
        if found.location > start {
            parts.append(whole.substring(with: NSRange(location: start, length: found.location - start)))
        }
        if kept && found.length > 0 { parts.append(whole.substring(with: found)) }
        start = found.location + found.length
    }
    if start < whole.length { parts.append(whole.substring(from: start)) }
    return parts
}

/// UTF-8 as GPT-2 writes it: a printable character for each byte.
private let ofByte: [Character] = {
    var next: UInt32 = 255
    return (UInt32(0)...255).map { byte in
        if (0x21...0x7e).contains(byte) || (0xa1...0xac).contains(byte) || (0xae...0xff).contains(byte) {
            return Character(Unicode.Scalar(byte)!)
        }
        next += 1
        return Character(Unicode.Scalar(next)!)
    }
}()

private func pieces(_ given: [String: Any], _ mostPieces: Int) throws -> (String) -> [Int] {
    let count = (given["vocab"] as? [Any])?.count ?? (given["vocab"] as? [String: Any])?.count ?? 0
    if count > mostPieces {
        throw TokenizerError.notRead(
            "Expected a vocabulary of up to \(mostPieces) pieces, got \(count). Choose a smaller backbone, or pass mostPieces.")
    }
    switch given["type"] as? String {
    case "WordPiece": return try wordPiece(given)
    case "BPE": return try bytePairs(given)
    case "Unigram": return try unigram(given)
    default: throw TokenizerError.notRead("Expected WordPiece, BPE or Unigram. Export again.")
    }
}

/// The longest piece first, from the left.
private func wordPiece(_ given: [String: Any]) throws -> (String) -> [Int] {
    let vocabulary: [String: Int] = try typed(given["vocab"])
    let unknown = vocabulary[try typed(given["unk_token"])] ?? 0
    let prefix: String = try typed(given["continuing_subword_prefix"])
    let most: Int = try typed(given["max_input_chars_per_word"])
    return { word in
        let characters = Array(word)  // each of one byte
        if characters.count > most { return [unknown] }
        var ids: [Int] = []
        var start = 0
        while start < characters.count {
            let before = start > 0 ? prefix : ""
            let ends = stride(from: characters.count, to: start, by: -1)
            guard let end = ends.first(where: { vocabulary[before + String(characters[start..<$0])] != nil }) else {
                return [unknown]
            }
            ids.append(vocabulary[before + String(characters[start..<end])]!)
            start = end
        }
        return ids
    }
}

/// Merges of two neighbours, the earliest learnt first, and of these the leftmost.
private func bytePairs(_ given: [String: Any]) throws -> (String) -> [Int] {
    let vocabulary: [String: Int] = try typed(given["vocab"])
    let merges: [[String]] = try typed(given["merges"])
    // No piece has a space, which is a byte like the others.
    let ranks = Dictionary(uniqueKeysWithValues: merges.enumerated().map { ($1.joined(separator: " "), $0) })
    return { word in
        var parts = word.map(String.init)
        while let (at, _) = parts.indices.dropLast()
            .compactMap({ at in ranks["\(parts[at]) \(parts[at + 1])"].map { (at, $0) } })
            .min(by: { $0.1 < $1.1 })
        {
            parts[at] += parts.remove(at: at + 1)
        }
        return parts.compactMap { vocabulary[$0] }
    }
}

/// The most probable way to cut a text into pieces (Viterbi); unknown characters in a row are one piece.
private func unigram(_ given: [String: Any]) throws -> (String) -> [Int] {
    let all: [[Any]] = try typed(given["vocab"])
    let scores: [Double] = try all.map { try typed($0[1]) }
    // By scalars: two strings that Swift takes for equal, as composed and decomposed ones, are two pieces.
    var vocabulary: [[Unicode.Scalar]: Int] = [:]
    for (index, entry) in all.enumerated() { vocabulary[Array((try typed(entry[0]) as String).unicodeScalars)] = index }
    let unknown: Int = try typed(given["unk_id"])
    let unknownScore = (scores.min() ?? 0) - 10
    let longest = vocabulary.keys.map(\.count).max() ?? 1
    return { text in
        let scalars = Array(text.unicodeScalars)
        var best = [Double](repeating: -.infinity, count: scalars.count + 1)
        var from = [Int](repeating: -1, count: scalars.count + 1)
        var id = [Int](repeating: unknown, count: scalars.count + 1)
        best[0] = 0
        for start in scalars.indices {
            func take(_ end: Int, _ piece: Int, _ score: Double) {
                if from[end] < 0 || best[start] + score > best[end] {
                    (best[end], from[end], id[end]) = (best[start] + score, start, piece)
                }
            }
            for end in (start + 1)...min(start + longest, scalars.count) {
                if let piece = vocabulary[Array(scalars[start..<end])] { take(end, piece, scores[piece]) }
            }
            if vocabulary[[scalars[start]]] == nil { take(start + 1, unknown, unknownScore) }
        }
        var ids: [Int] = []
        var end = scalars.count
        while end > 0 {
            if id[end] != unknown || ids.last != unknown { ids.append(id[end]) }
            end = from[end]
        }
        return ids.reversed()
    }
}
