internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit

/// Stored bytes on their way from disk to a full view, and to the views of the next layers, which are likely to be asked for next.
///
/// Items follow one another in the ring as views want them: all objects in one layer, then all in the next.
///
/// Objects never change, so bytes that were read early are never stale; whether they are those of the objects that a view
/// wants is told by the objects' ids. Between views only bytes are held, no objects: what is removed meanwhile leaves the disk.
@CacheLoop
final class ReadAhead {
    /// What one object holds of one layer, as it is stored.
    struct Item: Sendable {
        let kept: FileBytes
        let evicted: FileBytes
    }

    private let ring: ReadRing<Item>
    /// Of the objects, in the order of their chunks.
    private let ids: [ObjectID]
    private let layers: Range<Int>
    /// The layer of the view at work, or of the next one.
    private var layer: Int
    /// Told of the bytes of each read.
    private let onRead: @CacheLoop (Int) -> Void

    /// - Parameters:
    ///   - objects: at least one.
    ///   - layers: the first is the next view's.
    ///   - byteLimit: bytes of the ring, unless one item alone takes more.
    init(
        _ objects: [StoredObject], layers: Range<Int>, byteLimit: Int, _ pool: BufferPool,
        onRead: @escaping @CacheLoop (Int) -> Void
    ) {
        let placeBytes = objects.reduce(0) { max($0, $1.byteBoundOfLayer) }
        ring = ReadRing(count: objects.count * layers.count, placeBytes: placeBytes, byteLimit: byteLimit, pool)
        ids = objects.map(\.header.id)
        self.layers = layers
        layer = layers.lowerBound
        self.onRead = onRead
    }

    /// Bytes that it takes for as long as it is there.
    var byteCount: Int { ring.byteCount }
    /// What of them is charged to the memory budget.
    var charged = 0

    /// Whether the next view that it reads for is this one.
    func isFor(_ objects: [StoredObject], layer: Int) -> Bool {
        layer == self.layer && objects.map(\.header.id) == ids
    }

    /// Reads for a view of `objects` until `endView`.
    func beginView(_ objects: [StoredObject]) {
        let (layers, onRead) = (layers, onRead)
        ring.begin { number, place throws(CacheError) in
            let (object, layer) = (objects[number % objects.count], layers.lowerBound + number / objects.count)
            let (kept, evicted) = (object.index.keptRange(layer: layer), object.index.evictedRange(layer: layer))
            // Both at once: every read that waits for another is a journey to the disk.
            let evictedBytes = Self.read(evicted, of: object, into: place.dropFirst(object.bytesToRead(kept)))
            let keptBytes = Self.read(kept, of: object, into: place)
            // And both are over before either may fail: the place is somebody else's then.
            let results = (await keptBytes.value, await evictedBytes.value)
            let item = Item(kept: try results.0.get(), evicted: try results.1.get())
            onRead(kept.count + evicted.count)
            return item
        }
    }

    private static func read(
        _ range: Range<Int>, of object: StoredObject, into place: ReadPlace
    ) -> Task<Result<FileBytes, CacheError>, Never> {
        CacheLoop.start { await Result(of: { () async throws(CacheError) in try await object.read(range, into: place) }) }
    }

    /// - Returns: whether there is another layer to read for.
    func endView() -> Bool {
        ring.pause()
        layer += 1
        return layers.contains(layer)
    }

    /// Waits for the bytes of object `number`. Every object is asked for once in a view, in order, and let go of afterwards.
    func item(_ number: Int) async throws(CacheError) -> Item { try await ring.item(first + number) }

    /// The bytes of object `number` are not needed any more.
    func letGo(_ number: Int) { ring.letGo(first + number) }

    /// Reads nothing more, and waits until the disk is done with the ring.
    func end() async { await ring.end() }

    /// The first item of the view.
    private var first: Int { (layer - layers.lowerBound) * ids.count }
}
