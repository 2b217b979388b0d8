/// A file that is not what it should be, and why.
package struct BadFile: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}
