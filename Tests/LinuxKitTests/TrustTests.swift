import Glibc
import LinuxKit
import Testing

@Suite("trust in a directory")
struct TrustTests {
    @Test("a directory that strangers own or may write is named, but not one with the sticky bit")
    func stranger() throws {
        let pattern = Array("/tmp/lagkvd-trust-XXXXXX".utf8CString)
        let directory = try pattern.withUnsafeBufferPointer { pattern in
            var bytes = Array(pattern)
            return try #require(mkdtemp(&bytes).map { String(cString: $0) })
        }
        defer { rmdir(directory) }
        #expect(try Kernel.stranger(inDirectory: directory) == nil)
        chmod(directory, 0o777)
        #expect(try Kernel.stranger(inDirectory: directory) == "everybody may write to \(directory)")
        chmod(directory, 0o1777)
        #expect(try Kernel.stranger(inDirectory: directory) == nil)
        if geteuid() == 0 {
            chown(directory, 12_345, 0)
            #expect(try Kernel.stranger(inDirectory: directory) == "\(directory) belongs to user 12345")
        }
        #expect(throws: KernelError.self) { try Kernel.stranger(inDirectory: directory + "/none") }
    }
}
