//! Generates the wire types from the .proto files with a pure-Rust compiler: no `protoc` is needed to build.

const FILES: [&str; 9] = [
    "grpc/health.proto",
    "spiffe/workload.proto",
    "spire/types.proto",
    "spire/agent.proto",
    "spire/bundle.proto",
    "spire/debug.proto",
    "spire/entry.proto",
    "spire/svid.proto",
    "errand/v1.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
