/// Lines for people: columns as wide as their widest cell, two spaces apart.
struct Table {
    enum Alignment {
        case left
        case right
    }

    struct Column {
        var title: String
        var alignment: Alignment

        init(_ title: String, _ alignment: Alignment = .left) {
            self.title = title
            self.alignment = alignment
        }
    }

    var columns: [Column]
    private(set) var rows: [[String]] = []

    init(_ columns: [Column]) { self.columns = columns }

    /// Two columns without titles: names and values.
    static func pairs(_ pairs: [(String, String)]) -> Table {
        var table = Table([Column(""), Column("")])
        for (name, value) in pairs { table.add([name, value]) }
        return table
    }

    mutating func add(_ row: [String]) {
        precondition(row.count == columns.count, "\(row.count) cells for \(columns.count) columns")
        rows.append(row)
    }

    /// Without spaces at the ends of lines; ends with a line break. A header only where a column has a title.
    func render() -> String {
        let titles = columns.map(\.title)
        let lines = (titles.allSatisfy(\.isEmpty) ? [] : [titles]) + rows
        let widths = columns.indices.map { column in lines.map { Self.width($0[column]) }.max() ?? 0 }
        return lines.map { line in
            var text = ""
            for (column, cell) in line.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - Self.width(cell))
                text += (column == 0 ? "" : "  ") + (columns[column].alignment == .left ? cell + padding : padding + cell)
            }
            while text.last == " " { text.removeLast() }
            return text + "\n"
        }.joined()
    }

    /// Characters as a terminal counts them, near enough: names are ASCII, units hold at most a × or µ.
    private static func width(_ cell: String) -> Int { cell.count }
}
