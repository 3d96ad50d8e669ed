//! A basis as bytes, all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `driftvec` |
//! | 4, 4, 8 | format version, d, N |
//! | 4 × 5, 4 | a0, λ, m, newest weight and ratio of a history; its limit |
//! | 8 | watermark, milliseconds |
//! | 4 d | energies of the axes |
//! | 4 N | training counts |
//! | 4 N d | vectors, item by item |
//! | | N ids, each a byte-length (2) and UTF-8 |
//! | 8 | XXH3-64 of all before: the checksum, and the version of the basis |

use super::{Basis, BasisVersion, Hyperparameters};
use crate::ids::{ItemId, stable_hash};
use crate::model::vector::{Dim, Vectors};
use crate::model::{HistoryWeights, ModelError};
use crate::time::EventTime;

const MAGIC: &[u8; 8] = b"driftvec";
const FORMAT: u32 = 1;
const CHECKSUM_BYTES: usize = 8;

pub(super) fn encode(basis: &Basis) -> Vec<u8> {
    let n = basis.items.len();
    let mut out = Vec::with_capacity(64 + n * (4 * basis.dim().get() + 32));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&(basis.dim().get() as u32).to_le_bytes());
    out.extend_from_slice(&(n as u64).to_le_bytes());
    let Hyperparameters { unobserved, regularization, history } = basis.hyperparameters;
    let HistoryWeights { newest, ratio, limit } = history;
    put_floats(&mut out, &[unobserved, regularization, basis.mean_user_norm, newest, ratio]);
    out.extend_from_slice(&limit.to_le_bytes());
    out.extend_from_slice(&basis.watermark.millis().to_le_bytes());
    put_floats(&mut out, &basis.energies);
    basis.counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    put_floats(&mut out, basis.vectors.values());
    for item in &basis.items {
        out.extend_from_slice(&(item.as_str().len() as u16).to_le_bytes());
        out.extend_from_slice(item.as_str().as_bytes());
    }
    out.extend_from_slice(&stable_hash(&out).to_le_bytes());
    out
}

fn put_floats(out: &mut Vec<u8>, values: &[f32]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

/// The version that encoded bytes end with.
pub(super) fn version_of(encoded: &[u8]) -> BasisVersion {
    encoded.last_chunk().map_or(BasisVersion(0), |tail| BasisVersion(u64::from_le_bytes(*tail)))
}

pub(super) fn decode(bytes: &[u8]) -> Result<Basis, ModelError> {
    if !bytes.starts_with(MAGIC) {
        return Err(ModelError::Corrupt("it does not begin as one"));
    }
    let version = version_of(bytes);
    let body = bytes.len().checked_sub(CHECKSUM_BYTES).and_then(|end| bytes.get(..end));
    let body = body.ok_or(ModelError::Corrupt("it ends early"))?;
    let mut rest = Reader(&body[MAGIC.len()..]);
    // Before the checksum, so that a newer file is not called damaged.
    if u32::from_le_bytes(rest.array()?) != FORMAT {
        return Err(ModelError::Corrupt("it is of another format version"));
    }
    if stable_hash(body) != version.0 {
        return Err(ModelError::Corrupt("its checksum is wrong"));
    }
    let dim = Dim::new(u32::from_le_bytes(rest.array()?) as usize)?;
    let n = u64::from_le_bytes(rest.array()?);
    // Positions are of 32 bits.
    let n = u32::try_from(n).map_err(|_| ModelError::Corrupt("it has too many items"))? as usize;
    let (unobserved, regularization, mean_user_norm) =
        (rest.float()?, rest.float()?, rest.float()?);
    let (newest, ratio) = (rest.float()?, rest.float()?);
    let history = HistoryWeights { newest, ratio, limit: u32::from_le_bytes(rest.array()?) };
    let watermark = EventTime::from_millis(i64::from_le_bytes(rest.array()?));
    let energies = rest.floats(dim.get())?;
    let counts = rest.words(n)?.map(u32::from_le_bytes).collect();
    let values = n.checked_mul(dim.get()).ok_or(ModelError::Corrupt("it has too many items"))?;
    let vectors = Vectors::from_values(dim, rest.floats(values)?)?;
    let mut items = Vec::with_capacity(n);
    for _ in 0..n {
        let length = u16::from_le_bytes(rest.array()?);
        let text = std::str::from_utf8(rest.take(length.into())?)
            .map_err(|_| ModelError::Corrupt("an id is not UTF-8"))?;
        items.push(ItemId::from(text));
    }
    if !rest.0.is_empty() {
        return Err(ModelError::Corrupt("bytes are left over"));
    }
    let mut basis = Basis {
        hyperparameters: Hyperparameters { unobserved, regularization, history },
        watermark,
        mean_user_norm,
        items,
        counts,
        vectors,
        energies,
        positions: std::collections::HashMap::with_capacity(n),
        version,
    };
    basis.check()?;
    basis.index()?;
    Ok(basis)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], ModelError> {
        let (head, rest) =
            self.0.split_at_checked(n).ok_or(ModelError::Corrupt("it ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let (head, rest) =
            self.0.split_first_chunk().ok_or(ModelError::Corrupt("it ends early"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn float(&mut self) -> Result<f32, ModelError> {
        self.array().map(f32::from_le_bytes)
    }

    /// `n` values of four bytes; looks whether they are there before memory is asked for.
    fn words(&mut self, n: usize) -> Result<impl Iterator<Item = [u8; 4]> + 'a, ModelError> {
        let bytes = n.checked_mul(4).ok_or(ModelError::Corrupt("it ends early"))?;
        Ok(self.take(bytes)?.as_chunks().0.iter().copied())
    }

    fn floats(&mut self, n: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.words(n)?.map(f32::from_le_bytes).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Position, Training};

    fn basis(n: usize) -> Basis {
        let dim = Dim::new(16).unwrap();
        let values = (0..n * 16).map(|i| ((i * 7_919) % 613) as f32 / 613.0 - 0.3).collect();
        let training = Training {
            items: (0..n).map(|i| ItemId::from(format!("vidéo-{i}").as_str())).collect(),
            counts: (0..n as u32).collect(),
            vectors: Vectors::from_values(dim, values).unwrap(),
            hyperparameters: PARAMETERS,
            watermark: EventTime::from_millis(-5),
        };
        Basis::seal(training, [[Position(0), Position(1)]], 2).unwrap()
    }

    const PARAMETERS: Hyperparameters = Hyperparameters {
        unobserved: 0.03,
        regularization: 0.02,
        history: HistoryWeights::SESSIONS,
    };

    #[test]
    fn a_basis_read_back_is_the_same_and_folds_in_the_same() {
        let before = basis(40);
        let bytes = before.to_bytes();
        let after = Basis::from_bytes(&bytes).unwrap();
        assert_eq!(after.to_bytes(), bytes);
        assert_eq!((after.version(), after.watermark()), (before.version(), before.watermark()));
        let position = after.position("vidéo-7").unwrap();
        assert_eq!(after.trained(position), before.trained(Position(7)));
        assert_eq!(after.position("vidéo-40"), None);
        let history = [Some(Position(3)), None, Some(Position(7))];
        let (mut one, mut other) = (before.solver(), after.solver());
        let folded = before.fold_in(&mut one, history).unwrap();
        assert_eq!(folded, after.fold_in(&mut other, history).unwrap());
        assert_eq!(before.fold_in(&mut before.solver(), []), None);
    }

    #[test]
    fn a_newer_format_is_not_called_damaged() {
        let mut bytes = basis(2).to_bytes();
        bytes[8] = 2;
        let text = Basis::from_bytes(&bytes).unwrap_err().to_string();
        assert!(text.contains("another format version"), "{text}");
    }

    #[test]
    fn ids_that_come_twice_or_are_empty_are_refused() {
        for ids in [["a", "a"], ["a", ""]] {
            let training = Training {
                items: ids.map(ItemId::from).to_vec(),
                counts: vec![1, 1],
                vectors: Vectors::from_values(Dim::new(8).unwrap(), vec![0.5; 16]).unwrap(),
                hyperparameters: PARAMETERS,
                watermark: EventTime::default(),
            };
            let made = Basis::seal(training, [[Position(0)]], 1);
            assert!(matches!(made, Err(ModelError::ItemId { .. })));
        }
    }

    #[test]
    fn m_is_the_mean_over_the_histories_and_needs_one() {
        let one = basis(5);
        let mut solver = one.solver();
        let user = one.fold_in(&mut solver, [Some(Position(0)), Some(Position(1))]).unwrap();
        assert_eq!(one.mean_user_norm(), crate::model::vector::dot(user, user));
        let training = Training {
            items: one.items().to_vec(),
            counts: vec![1; 5],
            vectors: one.vectors().clone(),
            hyperparameters: PARAMETERS,
            watermark: EventTime::default(),
        };
        let none: [[Position; 0]; 1] = [[]];
        let refused = Basis::seal(training, none, 1).unwrap_err().to_string();
        assert!(refused.contains("over the histories"), "{refused}");
    }

    /// Bytes with a checksum that fits, so that what comes after it is tried too.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len().saturating_sub(CHECKSUM_BYTES);
        bytes.truncate(end);
        bytes.extend_from_slice(&stable_hash(&bytes).to_le_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut begun = MAGIC.to_vec();
            begun.extend_from_slice(&FORMAT.to_le_bytes());
            begun.extend_from_slice(&bytes);
            for bytes in [bytes, sealed(begun)] {
                prop_assert!(Basis::from_bytes(&bytes).is_err());
            }
        }

        #[test]
        fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = basis(5).to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(Basis::from_bytes(&bytes).is_err());
        }

        #[test]
        fn changed_bytes_under_a_right_checksum_never_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = basis(5).to_bytes();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(basis) = Basis::from_bytes(&sealed(bytes)) {
                let mut solver = basis.solver();
                let all = (0..basis.items().len() as u32).map(|p| Some(Position(p)));
                drop(basis.fold_in(&mut solver, all).map(<[f32]>::to_vec));
            }
        }
    }
}
