/// Numbers as people read them.
enum Units {
    /// "640 B", "13.5 MiB": three digits, binary steps.
    static func bytes(_ count: Int) -> String {
        guard count >= 1_024 else { return "\(count) B" }
        var value = Double(count)
        var unit = 0
        // 1,023.5 would be shown as 1024.
        while value >= 1_023.5, unit < 6 {
            value /= 1_024
            unit += 1
        }
        return "\(threeDigits(value)) \(["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][unit])"
    }

    /// "1.23 GB/s": decimal steps, as disks and memory are sold.
    static func rate(bytes: Int, seconds: Double) -> String {
        guard seconds > 0 else { return "–" }
        return "\(threeDigits(Double(bytes) / seconds / 1e9)) GB/s"
    }

    /// "41 µs", "1.20 ms", "3.4 s".
    static func seconds(_ seconds: Double) -> String {
        switch seconds {
        case ..<0.999_5e-3: "\(threeDigits(seconds * 1e6)) µs"
        case ..<0.999_5: "\(threeDigits(seconds * 1e3)) ms"
        default: "\(threeDigits(seconds)) s"
        }
    }

    /// "25.0 %".
    static func percent(_ share: Double) -> String { "\(fixed(share * 100, digits: 1)) %" }

    /// How long ago: "now", "42 s", "3 min", "5 h", "12 d".
    static func age(milliseconds: UInt64, now: UInt64) -> String {
        let seconds = now > milliseconds ? (now - milliseconds) / 1_000 : 0
        switch seconds {
        case 0: return "now"
        case ..<60: return "\(seconds) s"
        case ..<3_600: return "\(seconds / 60) min"
        case ..<86_400: return "\(seconds / 3_600) h"
        default: return "\(seconds / 86_400) d"
        }
    }

    /// Groups of three: "16,777,216".
    static func grouped(_ count: Int) -> String {
        var text = ""
        for (place, digit) in String(count.magnitude).reversed().enumerated() {
            if place > 0, place % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return (count < 0 ? "-" : "") + String(text.reversed())
    }

    static func threeDigits(_ value: Double) -> String {
        fixed(value, digits: value < 9.995 ? 2 : value < 99.95 ? 1 : 0)
    }

    static func fixed(_ value: Double, digits: Int) -> String {
        let scale = [1.0, 10, 100, 1_000][digits]
        let scaled = Int((value * scale).rounded())
        guard digits > 0 else { return "\(scaled)" }
        let (whole, fraction) = scaled.magnitude.quotientAndRemainder(dividingBy: UInt(scale))
        let text = String(fraction)
        return (scaled < 0 ? "-" : "") + "\(whole)." + String(repeating: "0", count: digits - text.count) + text
    }
}
