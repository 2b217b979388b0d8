public import CacheModel
internal import LinuxKit
public import WireProtocol

/// What else can be asked of an open session.
extension Session {
    /// Waits until every sealed chunk is on disk; with `window` the unsealed tokens as well.
    @discardableResult
    public func sync(window: Bool = false) throws(ClientError) -> Standing {
        try change(.sync(handle: handle, window: window))
    }

    /// Every token of a layer, in order, in memory that is the caller's alone.
    /// - Parameter again: the view may take the place of the last one that was asked for like this on this client: going
    ///   through many layers then costs the pages of one.
    public func full(layer: Int, again: Bool = false) throws(ClientError) -> FullView {
        try requireOpen()
        var descriptors = PassedDescriptors()
        guard case .full(let full) = try connection.ask(.full(handle: handle, layer: layer, again: again), &descriptors),
            let file = descriptors.takeFirst()
        else { throw Connection.unexpected(.full) }
        return try FullView(file, full, description.geometry)
    }

    /// Brings evicted tokens back into the view, until `release`.
    /// - Parameter chunks: for each head its sealed chunk numbers, as many for every head.
    @discardableResult
    public func recall(layer: Int, chunks: [[Int]]) throws(ClientError) -> Standing {
        do {
            return try recall([RecallChoice(layer: layer, chunks: chunks)])
        } catch let error as CacheError {
            throw .refused(error)
        } catch let error as ClientError {
            throw error
        } catch {
            fatalError("\(error): nothing else is thrown here")
        }
    }

    /// Recalls in several layers at once. What does not fit one frame goes in several requests, each all or nothing.
    @discardableResult
    public func recall(_ choices: [RecallChoice]) throws(ClientError) -> Standing {
        var rest = choices[...]
        while true {
            let part = rest.prefix(Self.choicesThatFit(rest))
            let standing = try change(.recall(handle: handle, Array(part)))
            rest = rest.dropFirst(part.count)
            if rest.isEmpty { return standing }
        }
    }

    /// As many as one frame holds, at least one: what no frame holds is cut nowhere, and the frame's limit refuses it.
    static func choicesThatFit(_ choices: ArraySlice<RecallChoice>) -> Int {
        var bytes = 8
        var count = 0
        for choice in choices.prefix(RecallChoice.perRequest) {
            bytes += choice.wireBytes
            guard count == 0 || bytes <= Limits.frameBytes else { break }
            count += 1
        }
        return count
    }

    /// Sends recalled tokens away again.
    @discardableResult
    public func release() throws(ClientError) -> Standing {
        try change(.release(handle: handle))
    }

    /// Makes the session what it would be had only its first `tokens` tokens been appended.
    @discardableResult
    public func truncate(to tokens: Int) throws(ClientError) -> Standing {
        try change(.truncate(handle: handle, tokens: tokens))
    }

    /// A new session of the caller's with the first `tokens` tokens (nil: all). This one is not changed.
    @discardableResult
    public func fork(as newName: SessionName, tokens: Int? = nil) throws(ClientError) -> SessionRow {
        try row(.fork(reference, as: newName, tokens: tokens))
    }

    /// Writes what is not on disk yet and gives the memory back. The session is closed by that.
    @discardableResult
    public func suspend() throws(ClientError) -> SessionRow {
        let row = try row(.suspend(reference))
        markClosed()
        return row
    }

    /// What the daemon knows of it.
    public func show() throws(ClientError) -> SessionRow {
        try row(.show(reference))
    }

    private func row(_ request: Request) throws(ClientError) -> SessionRow {
        try requireOpen()
        guard case .row(let row) = try connection.ask(request) else { throw Connection.unexpected(request.verb) }
        return row
    }
}
