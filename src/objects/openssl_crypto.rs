//! What signing requests to S3 needs, by the OpenSSL that TLS uses already: the alternatives that
//! the client offers are two more cryptographic libraries, in C and assembler, to build.

use object_store::Error;
use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
};
use openssl::hash::{Hasher, MessageDigest};
use openssl::pkey::PKey;

type Result<T> = std::result::Result<T, Error>;

/// SHA-256 and its HMAC.
#[derive(Debug)]
pub(super) struct OpensslCrypto;

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "OpenSSL", source: Box::new(error) }
}

fn digest_of(algorithm: &DigestAlgorithm) -> Result<MessageDigest> {
    match algorithm {
        DigestAlgorithm::Sha256 => Ok(MessageDigest::sha256()),
        other => Err(Error::NotSupported { source: format!("{other:?} is no SHA-256").into() }),
    }
}

impl CryptoProvider for OpensslCrypto {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        let hasher = Hasher::new(digest_of(&algorithm)?).map_err(failed)?;
        Ok(Box::new(Digest { hasher, error: None, digest: Vec::new() }))
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        let digest = digest_of(&algorithm)?;
        Ok(Box::new(Hmac { digest, secret: secret.into(), data: Vec::new(), code: Vec::new() }))
    }

    fn sign(&self, algorithm: SigningAlgorithm, _pem: &[u8]) -> Result<Box<dyn Signer>> {
        // Google's way; S3 signs with the HMAC.
        Err(Error::NotSupported { source: format!("signing with {algorithm:?}").into() })
    }
}

struct Digest {
    hasher: Hasher,
    /// Of an update, which has no answer of its own.
    error: Option<openssl::error::ErrorStack>,
    digest: Vec<u8>,
}

impl DigestContext for Digest {
    fn update(&mut self, data: &[u8]) {
        self.error = self.error.take().or(self.hasher.update(data).err());
    }

    fn finish(&mut self) -> Result<&[u8]> {
        if let Some(error) = self.error.take() {
            return Err(failed(error));
        }
        self.digest = self.hasher.finish().map_err(failed)?.to_vec();
        Ok(&self.digest)
    }
}

/// Keeps its data: what S3 has signed is a kilobyte, and OpenSSL's signer borrows its key.
struct Hmac {
    digest: MessageDigest,
    secret: Vec<u8>,
    data: Vec<u8>,
    code: Vec<u8>,
}

impl HmacContext for Hmac {
    fn update(&mut self, data: &[u8]) {
        self.data.extend_from_slice(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        let key = PKey::hmac(&self.secret).map_err(failed)?;
        let mut signer = openssl::sign::Signer::new(self.digest, &key).map_err(failed)?;
        self.code = signer.sign_oneshot_to_vec(&self.data).map_err(failed)?;
        Ok(&self.code)
    }
}
