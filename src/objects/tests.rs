use bytes::Bytes;

use super::*;

fn folder() -> (tempfile::TempDir, Objects) {
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("file://{}/inner", folder.path().display());
    let objects = Objects::open(&ObjectsSettings { uri, ..ObjectsSettings::default() }).unwrap();
    (folder, objects)
}

fn refusal(settings: &ObjectsSettings) -> String {
    Objects::open(settings).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn an_object_is_made_once_and_never_changed() {
    let (_folder, objects) = folder();
    assert_eq!(objects.create("a/b+c=d/x", Bytes::from("first")).unwrap(), Created::New);
    assert_eq!(objects.create("a/b+c=d/x", Bytes::from("second")).unwrap(), Created::Exists);
    assert_eq!(objects.get("a/b+c=d/x").unwrap().unwrap(), "first");
    assert_eq!(objects.get("a/b").unwrap(), None);
    objects.delete("a/b+c=d/x").unwrap();
    objects.delete("a/b+c=d/x").unwrap();
    assert_eq!(objects.get("a/b+c=d/x").unwrap(), None);
}

#[test]
fn listings_are_by_key_and_leave_out_what_is_beside_the_folder() {
    let (_folder, objects) = folder();
    for key in ["t/2", "t/1", "t/deep/er", "t2/1", "u"] {
        objects.create(key, Bytes::from(key)).unwrap();
    }
    let keys: Vec<_> = objects.list("t").unwrap().into_iter().map(|o| (o.key, o.bytes)).collect();
    assert_eq!(keys, [("t/1".into(), 3), ("t/2".into(), 3), ("t/deep/er".into(), 9)]);
    assert!(objects.list("nothing").unwrap().is_empty());
    let wanted = ["u".to_owned(), "v".to_owned(), "t/1".to_owned()];
    let found = objects.get_all(&wanted).unwrap();
    assert_eq!(found, [Some(Bytes::from("u")), None, Some(Bytes::from("t/1"))]);
    let mut found = Vec::new();
    let each = |one| -> Result<(), ObjectError> {
        found.push(one);
        Ok(())
    };
    objects.get_each(&wanted, 2, each).unwrap();
    let hashed = |text: &'static str| Some((Bytes::from(text), sha256_hex(text.as_bytes())));
    assert_eq!(found, [hashed("u"), None, hashed("t/1")]);
}

#[test]
fn one_of_many_writers_of_a_key_is_first() {
    let (_folder, objects) = folder();
    let news = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let objects = &objects;
                scope.spawn(move || objects.create("k", Bytes::from(vec![n; 10_000])).unwrap())
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|t| (t.join().unwrap() == Created::New).then_some(()))
            .count()
    });
    assert_eq!(news, 1);
    let bytes = objects.get("k").unwrap().unwrap();
    assert!(bytes.len() == 10_000 && bytes.iter().all(|b| *b == bytes[0]));
}

#[test]
fn what_names_no_store_is_refused_with_what_would() {
    let of = |uri: &str| ObjectsSettings { uri: uri.into(), ..ObjectsSettings::default() };
    assert!(refusal(&of("gs://bucket")).contains("s3://bucket/prefix"));
    assert!(refusal(&of("file://")).contains("no name"));
    let ca = ObjectsSettings { tls_ca: "/no/such/file.pem".into(), ..of("s3://bucket") };
    assert!(refusal(&ca).contains("/no/such/file.pem"));
}

#[test]
fn signatures_are_those_of_the_standards_own_examples() {
    // RFC 4231, test case 2; FIPS 180-2, B.1.
    let crypto = openssl_crypto::OpensslCrypto;
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    use object_store::client::{CryptoProvider as _, DigestAlgorithm};
    let mut hmac = crypto.hmac(DigestAlgorithm::Sha256, b"Jefe").unwrap();
    hmac.update(b"what do ya want ");
    hmac.update(b"for nothing?");
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hex(hmac.finish().unwrap()), expected);
    let mut digest = crypto.digest(DigestAlgorithm::Sha256).unwrap();
    digest.update(b"a");
    digest.update(b"bc");
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hex(digest.finish().unwrap()), expected);
    assert_eq!(sha256_hex(b"abc"), expected);
}
