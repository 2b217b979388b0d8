internal import CacheLoop

/// The chunk objects that were read last, open: their index is parsed and their file is at hand. Objects never change, so
/// nothing here ever has to be refreshed. Each costs a descriptor and about 16 bytes for each block of its index.
@CacheLoop
final class OpenObjects {
    /// Objects that are kept open: a 32k-token session's of 128-token chunks, twice.
    private static let limit = 512

    private var objects: [Key: (object: StoredObject, lastUse: UInt64)] = [:]
    private var uses: UInt64 = 0

    private struct Key: Hashable {
        /// Its identity on disk, which no session ever has again.
        let session: ObjectID
        let name: ObjectName
    }

    func get(_ name: ObjectName, of session: SessionFiles) -> StoredObject? {
        let key = Key(session: session.manifest.id, name: name)
        guard let object = objects[key]?.object else { return nil }
        uses += 1
        objects[key]?.lastUse = uses
        return object
    }

    func put(_ object: StoredObject, _ name: ObjectName, of session: SessionFiles) {
        if objects.count >= Self.limit, let oldest = objects.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            objects[oldest.key] = nil
        }
        uses += 1
        objects[Key(session: session.manifest.id, name: name)] = (object, uses)
    }

    /// Lets go of a session's objects, so that what is removed of them leaves the disk.
    func removeAll(of session: SessionFiles) {
        objects = objects.filter { $0.key.session != session.manifest.id }
    }
}
