internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit

/// Stored bytes on their way from disk to a full view, and to the views of the next layers, which are likely to be asked for next.
///
/// A ring of places in one buffer. Each takes one item: what one object holds of one layer. Items follow one another as views
/// want them: all objects in one layer, then all in the next. A place whose item was decoded is filled with the next item that
/// has none, so the disk goes on while workers decode and while the client thinks. The buffer is one large one, since the
/// disk is read at its full rate only into huge pages.
///
/// Objects never change, so bytes that were read early are never stale; whether they are those of the objects that a view
/// wants is told by the objects' ids. Between views only bytes are held, no objects: what is removed meanwhile leaves the disk.
///
/// Invariant: item i lies at place i % places, and is read after item i − places was let go.
@CacheLoop
final class ReadAhead {
    /// What one object holds of one layer, as it is stored.
    struct Item: Sendable {
        let kept: FileBytes
        let evicted: FileBytes
    }

    private let buffer: AlignedBuffer
    private let placeBytes: Int
    /// Of the objects, in the order of their chunks.
    private let ids: [ObjectID]
    private let layers: Range<Int>
    /// The layer of the view at work, or of the next one.
    private var layer: Int
    /// Those of the view at work; empty between views.
    private var objects: [StoredObject] = []
    private var places: [Task<Result<Item, CacheError>, Never>?]
    /// The first item that is not being read yet.
    private var next = 0
    private var readsInFlight = 0
    /// Fires when `next` grows.
    private let nextGrew = Signal()
    /// Told of the bytes of each read.
    private let onRead: @CacheLoop (Int) -> Void

    /// Items that are read at a time: enough to keep a disk busy, little enough to let others' reads through.
    private static let mostReads = 16

    /// - Parameters:
    ///   - objects: at least one.
    ///   - layers: the first is the next view's.
    ///   - byteLimit: bytes of the buffer, unless one item alone takes more.
    init(
        _ objects: [StoredObject], layers: Range<Int>, byteLimit: Int, _ pool: BufferPool,
        onRead: @escaping @CacheLoop (Int) -> Void
    ) {
        placeBytes = objects.reduce(0) { max($0, $1.byteBoundOfLayer) }
        let count = max(1, min(byteLimit / placeBytes, objects.count * layers.count))
        buffer = pool.take(byteCount: count * placeBytes)
        places = Array(repeating: nil, count: count)
        ids = objects.map(\.header.id)
        self.layers = layers
        layer = layers.lowerBound
        self.onRead = onRead
    }

    /// Bytes that it takes for as long as it is there.
    var byteCount: Int { buffer.byteCount }
    /// What of them is charged to the memory budget.
    var charged = 0

    /// Whether the next view that it reads for is this one.
    func isFor(_ objects: [StoredObject], layer: Int) -> Bool {
        layer == self.layer && objects.map(\.header.id) == ids
    }

    // MARK: A view

    /// Reads for a view of `objects` until `endView`.
    func beginView(_ objects: [StoredObject]) {
        self.objects = objects
        readOn()
    }

    /// - Returns: whether there is another layer to read for.
    func endView() -> Bool {
        objects = []
        layer += 1
        return layers.contains(layer)
    }

    /// Waits for the bytes of object `number`. Every object is asked for once in a view, in order, and let go afterwards.
    func item(_ number: Int) async throws(CacheError) -> Item {
        let item = first + number
        while item >= next { await nextGrew.wait() }
        return try await places[item % places.count]!.value.get()
    }

    /// The bytes of object `number` are not needed any more.
    func letGo(_ number: Int) {
        places[(first + number) % places.count] = nil
        readOn()
    }

    /// Reads nothing more, and waits until the disk is done with the buffer.
    func end() async {
        objects = []
        for place in places { _ = await place?.value }
    }

    /// The first item of the view.
    private var first: Int { (layer - layers.lowerBound) * ids.count }

    // MARK: Reading

    private func readOn() {
        while !objects.isEmpty, next < ids.count * layers.count, readsInFlight < Self.mostReads, places[next % places.count] == nil {
            let place = next % places.count
            let (object, layer) = (objects[next % ids.count], layers.lowerBound + next / ids.count)
            readsInFlight += 1
            next += 1
            places[place] = CacheLoop.start {
                let item = await self.read(object, layer: layer, to: place)
                self.readsInFlight -= 1
                self.readOn()
                return item
            }
            nextGrew.fire()
        }
    }

    private func read(_ object: StoredObject, layer: Int, to place: Int) async -> Result<Item, CacheError> {
        let (kept, evicted) = (object.index.keptRange(layer: layer), object.index.evictedRange(layer: layer))
        let start = place * placeBytes
        do throws(CacheError) {
            let item = Item(
                kept: try await object.read(kept, into: buffer, at: start),
                evicted: try await object.read(evicted, into: buffer, at: start + object.bytesToRead(kept)))
            onRead(kept.count + evicted.count)
            return .success(item)
        } catch {
            return .failure(error)
        }
    }
}
