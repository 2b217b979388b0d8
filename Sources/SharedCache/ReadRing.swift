internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit

/// Reads of many things of about the same size, ahead of those who decode them.
///
/// A ring of places in one buffer. Each takes one item; a place that was let go of is filled with the next item that has none,
/// so the disk goes on while workers decode and while a client thinks. The buffer is one large one, since the disk is read at
/// its full rate only into huge pages.
///
/// Readers take the items' parts in order, each the next one as soon as the disk has answered it, so that the disk has its
/// next task before anybody looks at what it brought.
///
/// Invariant: item i lies at place i % places, and is read after item i − places was let go of.
@CacheLoop
final class ReadRing<Part: Sendable> {
    /// Reads part `part` of item `number` to its share of the place.
    typealias Read = @CacheLoop (_ number: Int, _ part: Int, _ place: ReadPlace) async throws(CacheError) -> Part

    /// An item that is being read, or was.
    private struct Item {
        /// Nil: not there yet.
        var parts: [Result<Part, CacheError>?]
        /// Who waits for it.
        var taker: UnsafeContinuation<Void, Never>?

        var isThere: Bool { parts.allSatisfy { $0 != nil } }
    }

    /// A part that somebody has to read.
    private struct Assignment {
        let number: Int
        let part: Int
        let read: Read
    }

    private let count: Int
    private let partsPerItem: Int
    private let placeBytes: Int
    private let buffer: AlignedBuffer
    private let pool: BufferPool
    private var places: [Item?]
    /// The first part that is not being read yet, counted through all items.
    private var next = 0
    private var readers = 0
    /// Nil while nothing may be read.
    private var read: Read?
    /// Fires when an item gets its place.
    private let placed = Signal()
    /// Fires when there is no reader.
    private let rested = Signal()

    /// Bytes that are on their way at a time, at most; about half of it where chunks are well compressed. A disk (a virtual one in
    /// particular) may tell of everything it was given at the end: it has to last until that is decoded. Not more, since
    /// others' reads have to get through.
    private static var bytesInFlight: Int { 24 << 20 }
    /// Reads that are on their way at a time, where they are small.
    private static var readsInFlight: Int { 64 }

    /// - Parameters:
    ///   - count: how many items there are, at least one.
    ///   - partsPerItem: reads that an item takes.
    ///   - placeBytes: bytes that an item takes, in whole blocks; one that takes more gets memory of its own.
    ///   - byteLimit: bytes of the buffer, unless one item alone takes more.
    init(count: Int, partsPerItem: Int = 1, placeBytes: Int, byteLimit: Int, _ pool: BufferPool) {
        self.count = count
        self.partsPerItem = partsPerItem
        self.placeBytes = placeBytes
        self.pool = pool
        let placeCount = max(1, min(byteLimit / placeBytes, count))
        buffer = pool.take(byteCount: placeCount * placeBytes)
        places = Array(repeating: nil, count: placeCount)
    }

    /// Bytes that it takes for as long as it is there.
    var byteCount: Int { buffer.byteCount }

    /// Reads until `pause`.
    func begin(_ read: @escaping Read) {
        self.read = read
        readOn()
    }

    /// Reads nothing more until `begin`. What was begun is still read.
    func pause() { read = nil }

    /// Waits for all parts of item `number`, and throws what the first failed with. Items are asked for once, and let go of
    /// afterwards.
    func item(_ number: Int) async throws(CacheError) -> [Part] {
        while number * partsPerItem >= next { await placed.wait() }
        let place = number % places.count
        if !places[place]!.isThere { await withUnsafeContinuation { places[place]!.taker = $0 } }
        var parts: [Part] = []
        for part in places[place]!.parts { parts.append(try part!.get()) }
        return parts
    }

    /// The bytes of item `number` are not needed any more.
    func letGo(_ number: Int) {
        places[number % places.count] = nil
        readOn()
    }

    /// Reads nothing more, and waits until the disk is done with the buffer.
    func end() async {
        pause()
        while readers > 0 { await rested.wait() }
    }

    private func readOn() {
        // Two items at a time at least, however large they are.
        let mostReaders = max(2 * partsPerItem, min(Self.readsInFlight, partsPerItem * Self.bytesInFlight / placeBytes))
        while readers < mostReaders, let first = take() {
            readers += 1
            CacheLoop.start { await self.read(from: first) }
        }
    }

    /// The next part to read, if it may be read, and there is one, and a place for it. Whoever takes it has to read it.
    private func take() -> Assignment? {
        guard let read, next < count * partsPerItem else { return nil }
        let (number, part) = next.quotientAndRemainder(dividingBy: partsPerItem)
        if part == 0 {
            let place = number % places.count
            guard places[place] == nil else { return nil }
            places[place] = Item(parts: Array(repeating: nil, count: partsPerItem))
            placed.fire()
        }
        next += 1
        return Assignment(number: number, part: part, read: read)
    }

    /// Reads `first`, and what comes after it for as long as there is something to take.
    private func read(from first: Assignment) async {
        var taken: Assignment? = first
        while let assignment = taken {
            let place = assignment.number % places.count
            let start = place * placeBytes
            let room = ReadPlace(buffer, start..<start + placeBytes, pool)
            places[place]!.parts[assignment.part] = await Result(of: { () async throws(CacheError) in
                try await assignment.read(assignment.number, assignment.part, room)
            })
            // Before anybody looks at this one.
            taken = take()
            if places[place]!.isThere { places[place]!.taker?.resume() }
        }
        readers -= 1
        if readers == 0 { rested.fire() }
    }
}
