import Daemon
import Testing

@Suite("supervisor")
struct SupervisorTests {
    @Test("without a supervisor nothing was handed over and telling does nothing")
    func alone() throws {
        let supervisor = try Supervisor(environment: [:], processID: 42)
        #expect(supervisor.listener == nil && supervisor.watchdogInterval == nil)
        try supervisor.tell([.ready])
    }

    @Test("the listening socket is descriptor 3, and only the process it is meant for takes it")
    func activation() throws {
        let environment = ["LISTEN_PID": "42", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "lagkvd.socket"]
        #expect(try Supervisor(environment: environment, processID: 42).listener == 3)
        #expect(try Supervisor(environment: environment, processID: 43).listener == nil)
        #expect(throws: DaemonFailure.self) {
            try Supervisor(environment: ["LISTEN_PID": "42", "LISTEN_FDS": "2"], processID: 42)
        }
    }

    @Test("what it held for an earlier process is told from the listening socket by its name, in any order")
    func kept() throws {
        let environment = ["LISTEN_PID": "42", "LISTEN_FDS": "4", "LISTEN_FDNAMES": "slabs-a:lagkvd.socket:slabs-b:slabs-a"]
        let supervisor = try Supervisor(environment: environment, processID: 42)
        #expect(supervisor.listener == 4)
        #expect(supervisor.kept == ["a": [3, 6], "b": [5]])
        #expect(try Supervisor(environment: environment, processID: 43).kept.isEmpty)
    }

    @Test("the watchdog is told twice as often as it is due")
    func watchdog() throws {
        let environment = ["WATCHDOG_PID": "42", "WATCHDOG_USEC": "30000000"]
        #expect(try Supervisor(environment: environment, processID: 42).watchdogInterval == .seconds(15))
        #expect(try Supervisor(environment: environment, processID: 43).watchdogInterval == nil)
        #expect(try Supervisor(environment: ["WATCHDOG_USEC": "soon"], processID: 42).watchdogInterval == nil)
    }

    @Test("messages are sd_notify's, and a status is one line")
    func messages() {
        #expect(SupervisorMessage.ready.text == "READY=1")
        #expect(SupervisorMessage.reloading(now: 7).text == "RELOADING=1\nMONOTONIC_USEC=7")
        #expect(SupervisorMessage.stopping(patience: .seconds(2)).text == "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000")
        #expect(SupervisorMessage.status("a\nREADY=1").text == "STATUS=a READY=1")
        #expect(SupervisorMessage.watchdog.text == "WATCHDOG=1")
        #expect(SupervisorMessage.keep(name: "a").text == "FDSTORE=1\nFDNAME=slabs-a")
        #expect(SupervisorMessage.letGo(name: "a").text == "FDSTOREREMOVE=1\nFDNAME=slabs-a")
    }
}
