// swift-tools-version: 6.2
import PackageDescription

/// Every target compiles as Swift 6 with complete concurrency checking. Nonisolated async functions run on their
/// caller's actor, so that a call never leaves the loop behind one's back.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let collections = Target.Dependency.product(name: "DequeModule", package: "swift-collections")

// Arrows point down only: an import that points up is a type in the wrong room.
let package = Package(
    name: "lagkvd",
    products: [
        .executable(name: "lagkvd", targets: ["lagkvd"]),
        .executable(name: "lagkvctl", targets: ["lagkvctl"]),
        .executable(name: "lagkv-bench", targets: ["lagkv-bench"]),
        .library(name: "LagKVClient", targets: ["LagKVClient"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    ],
    targets: [
        // Executables: a few lines each over a library.
        .executableTarget(name: "lagkvd", dependencies: ["Daemon", "LinuxKit", argumentParser, logging], swiftSettings: strict),
        .executableTarget(name: "lagkvctl", dependencies: ["AdminCommands"], swiftSettings: strict),
        .executableTarget(name: "lagkv-bench", dependencies: ["LagKVClient", "LagKV", "ChunkStore", "CacheModel", "WireProtocol", "LinuxKit", "Safetensors", argumentParser], exclude: ["Results"], swiftSettings: strict),

        // The two sides of the socket.
        .target(name: "AdminCommands", dependencies: ["LagKVClient", "WireProtocol", "ChunkStore", "LagKV", "CacheModel", "LinuxKit", "Safetensors", argumentParser, logging], swiftSettings: strict),
        .target(name: "Safetensors", dependencies: ["CacheModel", "LinuxKit"], swiftSettings: strict),
        .target(name: "LagKVClient", dependencies: ["WireProtocol", "CacheModel", "LinuxKit"], exclude: [], swiftSettings: strict),
        .target(name: "Daemon", dependencies: ["SharedCache", "WireProtocol", "ChunkStore", "LinuxKit", "CacheLoop", argumentParser, logging, collections], swiftSettings: strict),

        // The core: decides; touches the world only through what it is given.
        .target(name: "SharedCache", dependencies: ["ChunkStore", "LagKV", "WireProtocol", "CacheModel", "CacheLoop", "LinuxKit", collections], swiftSettings: strict),
        .target(name: "ChunkStore", dependencies: ["CacheModel", "CacheLoop", "LinuxKit", "CLagKVKernels", "CZstd"], exclude: ["FORMAT.md"], swiftSettings: strict),
        .target(name: "LagKV", dependencies: ["CacheModel", "CLagKVKernels"], swiftSettings: strict),
        .target(name: "WireProtocol", dependencies: ["CacheModel"], exclude: ["PROTOCOL.md"], swiftSettings: strict),

        // Leaves: words, the loop's actor, the kernel.
        .target(name: "CacheModel", swiftSettings: strict),
        .target(name: "CacheLoop", dependencies: [collections], swiftSettings: strict),
        .target(name: "LinuxKit", dependencies: ["CLinux"], swiftSettings: strict),

        // C: the only places that see liburing's and zstd's headers, and the numeric inner loops.
        .target(name: "CLinux", dependencies: ["CUring"]),
        .systemLibrary(name: "CUring", pkgConfig: "liburing", providers: [.apt(["liburing-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .target(name: "CLagKVKernels", cSettings: [.unsafeFlags(["-O3"])]),

        // Tests.
        .target(name: "LoopTesting", path: "Tests/LoopTesting", swiftSettings: strict),
        .testTarget(name: "CacheLoopTests", dependencies: ["CacheLoop", "LoopTesting"], swiftSettings: strict),
        .testTarget(name: "DaemonTests", dependencies: ["Daemon", "ChunkStore", "CacheLoop", "LinuxKit", "LoopTesting", argumentParser, logging], swiftSettings: strict),
        .testTarget(
            name: "AdminCommandsTests",
            dependencies: ["AdminCommands", "LagKVClient", "Safetensors", "WireProtocol", "CacheModel", "LinuxKit", "TestDaemon", "lagkvd", "lagkvctl"],
            swiftSettings: strict),
        .testTarget(
            name: "LagKVClientTests", dependencies: ["LagKVClient", "WireProtocol", "CacheModel", "LinuxKit", "TestDaemon", "lagkvd"],
            swiftSettings: strict),
        .testTarget(name: "LinuxKitTests", dependencies: ["LinuxKit"], swiftSettings: strict),
        .testTarget(name: "ChunkStoreTests", dependencies: ["ChunkStore", "CacheModel", "LinuxKit", "CLagKVKernels", "CZstd"], exclude: ["Golden"], swiftSettings: strict),
        .testTarget(name: "WireProtocolTests", dependencies: ["WireProtocol", "CacheModel"], exclude: ["golden.hex"], swiftSettings: strict),
        .testTarget(name: "LagKVTests", dependencies: ["LagKV", "CacheModel"], resources: [.copy("Golden")], swiftSettings: strict),
        .testTarget(name: "SharedCacheTests", dependencies: ["SharedCache", "ChunkStore", "LagKV", "WireProtocol", "CacheModel", "CacheLoop", "LinuxKit", "LoopTesting"], swiftSettings: strict),

        // A real daemon for the tests that need one.
        .target(name: "TestDaemon", path: "Tests/TestDaemon", swiftSettings: strict),
    ]
)
