//! Compiles proto/ with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let first = if std::env::var_os("CARGO_FEATURE_P2V").is_some() {
        let session = protox::compile(["session.proto"], [root])?;
        tonic_prost_build::configure()
            // Disk data are not copied on their way from the buffer of the connection.
            .bytes(".v2v.session.v1.Chunk.data")
            .extern_path(".v2v.inventory.v1", "crate::inventory")
            .compile_fds(session)?;
        &[
            "appliance.proto",
            "admin.proto",
            "enrol.proto",
            "inventory.proto",
        ][..]
    } else {
        &["appliance.proto"]
    };
    tonic_prost_build::configure().compile_fds(protox::compile(first, [root])?)?;
    Ok(())
}
