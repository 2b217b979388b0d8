internal import CacheModel
internal import WireProtocol

extension SharedLayout {
    /// Checks once that everything the client will ever address lies inside the two files, so that a wrong number of the
    /// daemon's is an error here and not a trap later.
    func check(_ description: SessionDescription, slabBytes: Int, controlBytes: Int) throws(ClientError) {
        let geometry = description.geometry
        let (lastLayer, lastHead) = (geometry.layers - 1, geometry.heads - 1)
        guard self.slabBytes == slabBytes, self.controlBytes == controlBytes, isSane else { throw Self.bad("a shared layout") }

        let keyEnd = keys(layer: lastLayer, head: lastHead) + rows * geometry.keyBytes
        let valueEnd = values(layer: lastLayer, head: lastHead) + rows * geometry.valueBytes
        let idsEnd = idsOffset + 4 * description.capacity
        guard max(keyEnd, valueEnd, idsEnd) <= slabBytes, slabBytes >= SlabPage.byteCount,
            keyBase >= recallRows * geometry.keyBytes, valueBase >= recallRows * geometry.valueBytes
        else { throw Self.bad("the layout of a slab file") }

        let positionsEnd = positions(layer: lastLayer, head: lastHead) + 4 * rows
        let chunks = description.policy.sealedChunks(tokens: description.capacity)
        let summaryBytes = 2 * geometry.heads * geometry.keyBytes
        let summariesEnd = chunks == 0 ? 0 : summary(layer: lastLayer, chunk: chunks - 1) + summaryBytes
        guard max(positionsEnd, summariesEnd, layerEntry(geometry.layers)) <= controlBytes, controlBytes >= ControlPage.byteCount,
            layerTableOffset % 8 == 0, positionsOffset % 4 == 0, positionsLayerStride % 4 == 0, positionsHeadStride % 4 == 0
        else { throw Self.bad("the layout of a control file") }
    }

    /// No sum of products above can overflow: counts are limited, and no offset or stride exceeds its file.
    private var isSane: Bool {
        let slabNumbers = [
            idsOffset, layersOffset, layerStride, keyHeadStride, valueHeadStride, valuesOffset, keyBase, valueBase, recallRows,
            rows,
        ]
        let controlNumbers = [
            layerTableOffset, positionsOffset, positionsLayerStride, positionsHeadStride, summariesOffset, summariesLayerStride,
            summariesChunkStride,
        ]
        return slabNumbers.allSatisfy { $0 <= slabBytes } && controlNumbers.allSatisfy { $0 <= controlBytes }
            && slabBytes <= 2 * Limits.slabBytes && controlBytes <= Limits.slabBytes
    }

    private static func bad(_ what: String) -> ClientError {
        .badReply(CacheError(.badRequest, what, seen: "numbers that do not fit the files", expected: "numbers that do"))
    }
}
