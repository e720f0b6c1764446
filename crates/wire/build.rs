//! Compiles proto/ with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let files = protox::compile(["appliance.proto"], [root])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
