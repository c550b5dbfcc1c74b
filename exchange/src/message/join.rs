//! Joining: a gateway or agent presents its ServiceAccount token and gets a certificate.

/// What a joiner sends: one frame, then it closes its sending side.
#[derive(Clone, PartialEq, prost::Message)]
pub struct JoinRequest {
    /// A projected ServiceAccount token with the audience `carrick.dev`.
    #[prost(string, tag = "1")]
    pub token: String,
    /// A PKCS #10 certificate request (DER) for a key made by the joiner. Only its public key counts:
    /// name and role follow from the token.
    #[prost(bytes = "vec", tag = "2")]
    pub csr: Vec<u8>,
}

/// The controller's answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct JoinResponse {
    /// Either a certificate or a refusal.
    #[prost(oneof = "join_response::Outcome", tags = "1, 2")]
    pub outcome: Option<join_response::Outcome>,
}

/// The alternatives of [`JoinResponse`].
pub mod join_response {
    /// Whether the joiner was admitted.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Outcome {
        /// It was; the certificate (DER), signed by the cluster's identity.
        #[prost(bytes, tag = "1")]
        Certificate(Vec<u8>),
        /// It was not; the reason for a person.
        #[prost(string, tag = "2")]
        Refused(String),
    }
}
