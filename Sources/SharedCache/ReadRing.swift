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
/// Invariant: item i lies at place i % places, and is read after item i − places was let go of.
@CacheLoop
final class ReadRing<Item: Sendable> {
    /// Reads item `number`.
    typealias Read = @CacheLoop (_ number: Int, _ place: ReadPlace) async throws(CacheError) -> Item

    private let count: Int
    private let placeBytes: Int
    private let buffer: AlignedBuffer
    private let pool: BufferPool
    private var places: [Task<Result<Item, CacheError>, Never>?]
    /// The first item that is not being read yet.
    private var next = 0
    private var reading = 0
    /// Nil while nothing may be read.
    private var read: Read?
    /// Fires when `next` grows.
    private let nextGrew = Signal()

    /// Bytes that are on their way at a time, at most; about half of it where chunks are well compressed. A disk (a virtual one in
    /// particular) may tell of everything it was given at the end: it has to last until that is decoded. Not more, since
    /// others' reads have to get through.
    private static var bytesInFlight: Int { 24 << 20 }
    /// Reads that are on their way at a time, where they are small.
    private static var readsInFlight: Int { 64 }

    /// - Parameters:
    ///   - count: how many items there are, at least one.
    ///   - placeBytes: bytes that an item takes, in whole blocks; one that takes more gets memory of its own.
    ///   - byteLimit: bytes of the buffer, unless one item alone takes more.
    init(count: Int, placeBytes: Int, byteLimit: Int, _ pool: BufferPool) {
        self.count = count
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

    /// Waits for item `number`. Items are asked for once, in order, and let go of afterwards.
    func item(_ number: Int) async throws(CacheError) -> Item {
        while number >= next { await nextGrew.wait() }
        return try await places[number % places.count]!.value.get()
    }

    /// The bytes of item `number` are not needed any more.
    func letGo(_ number: Int) {
        places[number % places.count] = nil
        readOn()
    }

    /// Reads nothing more, and waits until the disk is done with the buffer.
    func end() async {
        pause()
        for place in places { _ = await place?.value }
    }

    private func readOn() {
        let mostReads = max(2, min(Self.readsInFlight, Self.bytesInFlight / placeBytes))
        while let read, next < count, reading < mostReads, places[next % places.count] == nil {
            let number = next
            let start = number % places.count * placeBytes
            let place = ReadPlace(buffer, start..<start + placeBytes, pool)
            reading += 1
            next += 1
            places[number % places.count] = CacheLoop.start {
                let result = await Result(of: { () async throws(CacheError) in try await read(number, place) })
                self.reading -= 1
                self.readOn()
                return result
            }
            nextGrew.fire()
        }
    }
}
