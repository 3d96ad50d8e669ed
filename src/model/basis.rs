//! The basis: item vectors as a training run left them, never changed again. Users are folded in
//! over it, live vectors leak back to it.

mod codec;

use std::collections::HashMap;

use super::ModelError;
use super::decay::HistoryWeights;
use super::fold_in::FoldIn;
use super::ials::IalsConfig;
use super::principal::turn;
use super::vector::{Dim, Vectors, dot};
use crate::ids::{ItemId, MAX_ID_BYTES};
use crate::time::EventTime;

/// The interactions that the ridge of a fold-in supposes: λ' = λ (4 + a0·N_items). One value for
/// all keeps the penalty of a basis fixed; a short history is what most requests have.
const SUPPOSED_HISTORY: f32 = 4.0;

/// The name of a basis: a hash of its bytes. Equal versions are equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BasisVersion(pub u64);

impl BasisVersion {
    /// Reads 16 hexadecimal digits, as they are written.
    pub fn parse(text: &str) -> Option<Self> {
        let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16)?;
        Some(Self(number))
    }
}

impl std::fmt::Display for BasisVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The place of an item in one basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u32);

/// What a basis was trained with and how users are folded in over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyperparameters {
    /// a0, the weight of what did not happen.
    pub unobserved: f32,
    /// λ, the regularisation.
    pub regularization: f32,
    /// Weights of a history. Part of the basis, since live vectors learn from users folded in with
    /// them, so whoever scores with live vectors must use the same.
    pub history: HistoryWeights,
}

impl Hyperparameters {
    /// Those of a training run.
    pub fn new(config: &IalsConfig, history: HistoryWeights) -> Self {
        let IalsConfig { unobserved, regularization, .. } = *config;
        Self { unobserved, regularization, history }
    }
}

/// What a training run leaves.
#[derive(Clone, Debug)]
pub struct Training {
    /// The items.
    pub items: Vec<ItemId>,
    /// Users by item.
    pub counts: Vec<u32>,
    /// Item vectors.
    pub vectors: Vectors,
    /// What it was run with.
    pub hyperparameters: Hyperparameters,
    /// The time of its newest event.
    pub watermark: EventTime,
}

/// What a basis knows of an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trained<'a> {
    /// Its vector t.
    pub vector: &'a [f32],
    /// n_tr, the users it was trained on.
    pub count: u32,
}

/// Frozen item vectors along their principal axes.
#[derive(Clone, Debug)]
pub struct Basis {
    hyperparameters: Hyperparameters,
    watermark: EventTime,
    mean_user_norm: f32,
    items: Vec<ItemId>,
    counts: Vec<u32>,
    vectors: Vectors,
    /// Eigenvalues of TᵀT, which is diagonal.
    energies: Vec<f32>,
    positions: HashMap<ItemId, Position>,
    version: BasisVersion,
}

impl Basis {
    /// Seals a training run. Vectors are turned to their principal axes, on `threads` threads; that
    /// changes no score. `histories` are those of users it was trained on, the newest position
    /// first; some thousands do. m is the mean of |u|² over them: of the users as they will be
    /// folded in, since training leaves longer vectors, with which new items learn too little.
    ///
    /// # Errors
    /// Lengths that differ; ids that are empty, too long or there twice; hyperparameters or
    /// vectors that are not finite; no history that gives a user.
    pub fn seal<H: IntoIterator<Item = Position>>(
        training: Training,
        histories: impl IntoIterator<Item = H>,
        threads: usize,
    ) -> Result<Self, ModelError> {
        let Training { items, counts, mut vectors, hyperparameters, watermark } = training;
        let energies = turn(&mut vectors, threads);
        let mut basis = Self {
            hyperparameters,
            watermark,
            mean_user_norm: 1.0,
            items,
            counts,
            vectors,
            energies,
            positions: HashMap::new(),
            version: BasisVersion(0),
        };
        basis.check()?;
        basis.index()?;
        let mut solver = basis.solver();
        let (mut norms, mut users) = (0.0, 0.0);
        for history in histories {
            if let Some(user) = basis.fold_in(&mut solver, history.into_iter().map(Some)) {
                norms += f64::from(dot(user, user));
                users += 1.0;
            }
        }
        basis.mean_user_norm = (norms / users) as f32;
        basis.check()?;
        basis.version = codec::version_of(&basis.to_bytes());
        Ok(basis)
    }

    /// Checks what was put together.
    fn check(&self) -> Result<(), ModelError> {
        let of = self.vectors.len();
        for (what, given) in [("item ids", self.items.len()), ("counts", self.counts.len())] {
            if given != of {
                return Err(ModelError::Shape { what, given, of });
            }
        }
        let Hyperparameters { unobserved, regularization, history } = self.hyperparameters;
        let named = [
            ("unobserved", unobserved),
            ("regularization", regularization),
            ("weight of the newest of a history", history.newest),
            ("ratio of a history", history.ratio),
            ("limit of a history", history.limit as f32),
            ("the mean of |u|² over the histories", self.mean_user_norm),
        ];
        for (name, value) in named {
            if !(value > 0.0 && value.is_finite()) {
                return Err(ModelError::NotPositive { name, value });
            }
        }
        let values = self.vectors.values().iter().chain(&self.energies);
        if !values.into_iter().all(|value| value.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        Ok(())
    }

    fn index(&mut self) -> Result<(), ModelError> {
        for (place, item) in self.items.iter().enumerate() {
            let length = item.as_str().len();
            let again = self.positions.insert(item.clone(), Position(place as u32)).is_some();
            if again || length == 0 || length > MAX_ID_BYTES {
                return Err(ModelError::ItemId { id: item.to_string() });
            }
        }
        Ok(())
    }

    /// Reads what [`Basis::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] where the bytes are of another version, cut off or changed; never
    /// panics, and never asks for more memory than the bytes account for.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        codec::decode(bytes)
    }

    /// The bytes to keep: `model/basis/codec.rs` says how they are laid out.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Its name.
    pub fn version(&self) -> BasisVersion {
        self.version
    }

    /// Components of a vector.
    pub fn dim(&self) -> Dim {
        self.vectors.dim()
    }

    /// The time of the newest event it was trained on.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// m, the mean of |u|² over users it was trained on, as folded in.
    pub fn mean_user_norm(&self) -> f32 {
        self.mean_user_norm
    }

    /// What it was trained with.
    pub fn hyperparameters(&self) -> Hyperparameters {
        self.hyperparameters
    }

    /// Its items, in the order of their positions.
    pub fn items(&self) -> &[ItemId] {
        &self.items
    }

    /// All vectors, in the order of their positions.
    pub fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// Where an item is; none where it was not there at training.
    pub fn position(&self, item: &str) -> Option<Position> {
        self.positions.get(item).copied()
    }

    /// What is known of an item of this basis. Panics at a position of another, larger one, like
    /// indexing a slice.
    pub fn trained(&self, position: Position) -> Trained<'_> {
        let place = position.0 as usize;
        Trained { vector: self.vectors.row(place), count: self.counts[place] }
    }

    /// A solver for users over this basis: one a thread.
    pub fn solver(&self) -> FoldIn {
        let Hyperparameters { unobserved, regularization, .. } = self.hyperparameters;
        let ridge = regularization * (SUPPOSED_HISTORY + unobserved * self.items.len() as f32);
        let mut solver = FoldIn::new(self.dim());
        solver.set_penalty(&self.energies, unobserved, ridge);
        solver
    }

    /// The user vector of a history over the frozen vectors, with a solver of this basis. The
    /// newest entry comes first; none stands for an item that the basis does not know, whose place
    /// in the history counts. None where nothing is known.
    pub fn fold_in<'s>(
        &self,
        solver: &'s mut FoldIn,
        history: impl IntoIterator<Item = Option<Position>>,
    ) -> Option<&'s [f32]> {
        let weighted = history.into_iter().zip(self.hyperparameters.history.iter());
        solver.user(weighted.filter_map(|(position, weight)| {
            position.map(|position| (self.trained(position).vector, weight))
        }))
    }
}
