internal import CacheLoop
internal import CacheModel
internal import ChunkStore

/// Metrics as text, in the OpenMetrics 1.0 exposition format.
extension SessionCache {
    func openMetrics() -> String {
        var text = ""
        func metric(_ name: String, _ kind: String, unit: String? = nil, _ help: String, _ values: [(labels: String, value: Int)]) {
            text += "# TYPE lagkvd_\(name) \(kind)\n"
            if let unit { text += "# UNIT lagkvd_\(name) \(unit)\n" }
            text += "# HELP lagkvd_\(name) \(help)\n"
            let suffix = kind == "counter" ? "_total" : ""
            for value in values { text += "lagkvd_\(name)\(suffix)\(value.labels) \(value.value)\n" }
        }
        func counter(_ name: String, _ value: Int, _ help: String) {
            metric(name, "counter", unit: name.hasSuffix("_bytes") ? "bytes" : nil, help, [("", value)])
        }
        func gauge(_ name: String, _ value: Int, _ help: String) {
            metric(name, "gauge", unit: name.hasSuffix("_bytes") ? "bytes" : nil, help, [("", value)])
        }
        let resident = sessions.values.count { $0.resident != nil }
        metric(
            "sessions", "gauge", "Sessions by state.",
            [("{state=\"resident\"}", resident), ("{state=\"suspended\"}", sessions.count - resident)])
        gauge("writers", sessions.values.count { $0.writer != nil }, "Sessions that a connection holds open for writing.")
        metric(
            "tier_bytes", "gauge", unit: "bytes", "Bytes in use, by tier.",
            [
                ("{tier=\"memory\"}", chargedMemory()), ("{tier=\"inlets\"}", deliveryBytes), ("{tier=\"staging\"}", stagedBytes),
                ("{tier=\"disk\"}", store.usedBytes),
            ])
        gauge("allocated_bytes", allocatedMemory(), "Bytes of slabs as the kernel counts them.")
        gauge("spare_bytes", spares.bytes, "Bytes of slabs that no session uses now, kept for the next.")
        metric(
            "budget_bytes", "gauge", unit: "bytes", "Budgets, by tier; a tier without one is left out.",
            [("{tier=\"memory\"}", settings.memoryBudget), ("{tier=\"staging\"}", settings.staging)]
                + (settings.diskBudget.map { [("{tier=\"disk\"}", $0)] } ?? []))
        gauge("faults", sessions.values.count { $0.fault != nil }, "Sessions whose chunks are not becoming durable.")

        counter("attaches", metrics.attaches, "Sessions opened.")
        counter("sessions_created", metrics.sessionsCreated, "Sessions created, forks included.")
        counter("sessions_deleted", metrics.sessionsDeleted, "Sessions deleted.")
        counter("tokens_appended", metrics.tokensAppended, "Tokens committed with a message.")
        counter("appended_bytes", metrics.bytesAppended, "Bytes of keys and values committed with a message.")
        counter("chunks_sealed", metrics.chunksSealed, "Chunks sealed.")
        counter("chunks_unsealed", metrics.chunksUnsealed, "Truncations that unsealed chunks.")
        counter("abnormal_tokens", metrics.abnormalTokens, "Tokens kept because a number in them is not finite, by layer and head.")
        counter("staging_waits", metrics.stagingWaits, "Commits that waited for room to stage chunks.")
        counter("chunks_spilled", metrics.chunksSpilled, "Chunks made durable.")
        counter("spilled_bytes", metrics.bytesSpilled, "Raw bytes of chunks made durable.")
        counter("disk_written_bytes", metrics.bytesWritten, "Coded bytes written to disk.")
        counter("disk_read_bytes", metrics.bytesRead, "Coded bytes read from disk.")
        counter("disk_refusals", metrics.diskRefusals, "Writes that the disk or its budget refused; each is tried again.")
        counter("suspends", metrics.suspends, "Sessions suspended.")
        counter("suspends_under_pressure", metrics.suspendedUnderPressure, "Sessions suspended to make room in memory.")
        counter("disposals", metrics.disposed, "Disposable sessions deleted to make room on disk.")
        counter("resumes", metrics.resumes, "Sessions brought into memory.")
        counter("slabs_reused", metrics.slabsReused, "Sessions brought into the memory of one that was gone, wiped.")
        counter("tokens_rescued", metrics.tokensRescued, "Tokens that a daemon which died had only in memory, made durable.")
        counter("truncates", metrics.truncates, "Sessions truncated.")
        counter("forks", metrics.forks, "Sessions forked.")
        counter("recalls", metrics.recalls, "Recall requests.")
        counter("chunks_recalled", metrics.chunksRecalled, "Chunks recalled, by layer and head.")
        counter("recalled_bytes", metrics.bytesRecalled, "Raw bytes recalled.")
        counter("rehydrated_bytes", metrics.bytesRehydrated, "Raw bytes of full views.")
        metric(
            "errors", "counter", "Requests refused, by error.",
            metrics.errors.sorted { $0.key.rawValue < $1.key.rawValue }.map { ("{error=\"\($0.key.name)\"}", $0.value) })
        return text + "# EOF\n"
    }
}
