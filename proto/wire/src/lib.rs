//! The wire: generated types of the SPIFFE Workload API, the part of `spire.api.server.*` that is served, gRPC health, and
//! `errand.v1`; and the conversions between them and the nouns of `proto-types`.
//!
//! Decides how a noun looks in protobuf. Refuses what is malformed; never decides what may be done.

#![expect(clippy::allow_attributes_without_reason, reason = "generated code brings its own attributes")]

pub mod convert;

/// The SPIFFE Workload API (no package).
pub mod workload {
    tonic::include_proto!("_");
}

pub mod grpc {
    pub mod health {
        pub mod v1 {
            tonic::include_proto!("grpc.health.v1");
        }
    }
}

pub mod spire {
    pub mod api {
        pub mod types {
            tonic::include_proto!("spire.api.types");
        }
        pub mod server {
            pub mod agent {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.agent.v1");
                }
            }
            pub mod bundle {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.bundle.v1");
                }
            }
            pub mod debug {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.debug.v1");
                }
            }
            pub mod entry {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.entry.v1");
                }
            }
            pub mod svid {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.svid.v1");
                }
            }
        }
    }
}

pub mod errand {
    pub mod v1 {
        tonic::include_proto!("errand.v1");
    }
}
