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

    private let ring: ReadRing<FileBytes>
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
        ring = ReadRing(count: objects.count * layers.count, partsPerItem: 2, placeBytes: placeBytes, byteLimit: byteLimit, pool)
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
        ring.begin { number, part, place throws(CacheError) in
            let (object, layer) = (objects[number % objects.count], layers.lowerBound + number / objects.count)
            let kept = object.index.keptRange(layer: layer)
            let (range, room) =
                part == 0
                ? (kept, place)
                : (object.index.evictedRange(layer: layer), place.dropFirst(object.bytesToRead(kept)))
            let bytes = try await object.read(range, into: room)
            onRead(range.count)
            return bytes
        }
    }

    /// - Returns: whether there is another layer to read for.
    func endView() -> Bool {
        ring.pause()
        layer += 1
        return layers.contains(layer)
    }

    /// Waits for the bytes of object `number`. Every object is asked for once in a view, in order, and let go of afterwards.
    func item(_ number: Int) async throws(CacheError) -> Item {
        let parts = try await ring.item(first + number)
        return Item(kept: parts[0], evicted: parts[1])
    }

    /// The bytes of object `number` are not needed any more.
    func letGo(_ number: Int) { ring.letGo(first + number) }

    /// Reads nothing more, and waits until the disk is done with the ring.
    func end() async { await ring.end() }

    /// The first item of the view.
    private var first: Int { (layer - layers.lowerBound) * ids.count }
}
