import Testing

@testable import LagKVClient

@Suite("where the daemon is looked for")
struct SocketPathTests {
    private func candidates(_ environment: [String: String], path: String? = nil, owner: UInt32? = nil) -> [String] {
        SocketPath.candidates(path: path, environment: { environment[$0] }, user: 1_000) {
            $0 == "/tmp/lagkvd-1000" ? owner : nil
        }
    }

    @Test("a path, then the variable, then the user's place and the system's")
    func order() {
        let system = "/run/lagkvd/lagkvd.sock"
        let both = ["LAGKVD_SOCKET": "/a", "XDG_RUNTIME_DIR": "/run/user/1000"]
        #expect(candidates(both, path: "/b") == ["/b"])
        #expect(candidates(both) == ["/a"])
        #expect(candidates(["XDG_RUNTIME_DIR": "/run/user/1000"]) == ["/run/user/1000/lagkvd.sock", system])
        #expect(candidates(["XDG_RUNTIME_DIR": "relative", "LAGKVD_SOCKET": ""]) == [system])
    }

    @Test("a directory in /tmp counts only if it is the user's")
    func temporary() {
        let system = "/run/lagkvd/lagkvd.sock"
        #expect(candidates([:], owner: 1_000) == ["/tmp/lagkvd-1000/lagkvd.sock", system])
        #expect(candidates([:], owner: 0) == [system])
        #expect(candidates([:], owner: nil) == [system])
    }
}
