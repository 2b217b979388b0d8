extension Result {
    /// What `body` returns or throws: the standard library's `init(catching:)` for a body that waits.
    @CacheLoop
    public init(of body: @CacheLoop () async throws(Failure) -> Success) async {
        do throws(Failure) {
            self = .success(try await body())
        } catch {
            self = .failure(error)
        }
    }
}
