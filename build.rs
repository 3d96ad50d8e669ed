//! Where RocksDB's release library is used instead of a build from source (`ROCKSDB_LIB_DIR`,
//! set by scripts/env.sh), the binary must find it again when it runs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=ROCKSDB_LIB_DIR");
    if let Ok(folder) = std::env::var("ROCKSDB_LIB_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
