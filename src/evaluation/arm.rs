//! What is compared: choices of sources, and of how item vectors move. Pure.

use crate::serving::SourceKind;

/// How the item vectors move that an arm finds items by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vectors {
    /// With every interaction, as they serve.
    #[default]
    Online,
    /// Not between trainings: an item is where training left it, one that was not there where its
    /// content puts it, and nowhere without a catalog.
    Frozen,
}

/// What arms are made with vectors that do not move, beside those that serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// The blend and `nearest` with frozen vectors, the latter also lifted by popularity.
    pub frozen: bool,
    /// The blend without vectors.
    pub off: bool,
}

/// A choice of sources that is evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// As reports name it.
    pub name: String,
    /// The sources, in the order in which they are asked.
    pub sources: Vec<SourceKind>,
    /// The vectors that it serves from.
    pub vectors: Vectors,
    /// The exponent of popularity that lifts `nearest`, where that alone serves and is lifted.
    pub lifted_by: Option<f32>,
    /// The place of the arm with moving vectors whose control this is.
    pub control_of: Option<usize>,
}

/// Exponents of popularity that frozen vectors are lifted by: the best is known in the end only.
const LIFTS: [f32; 4] = [0.1, 0.2, 0.4, 0.8];

impl Arm {
    /// These sources, with moving vectors.
    pub fn new(name: impl Into<String>, sources: &[SourceKind]) -> Self {
        let (name, sources) = (name.into(), sources.to_vec());
        Self { name, sources, vectors: Vectors::Online, lifted_by: None, control_of: None }
    }

    /// The blend of `sources` first, then the popularity floor: trending alone. With `ablate`
    /// also each source alone, and the blend without each.
    pub fn all(sources: &[SourceKind], ablate: bool) -> Vec<Arm> {
        let mut arms = vec![Arm::new("blend", sources)];
        let mut add = |name: String, sources: Vec<SourceKind>| {
            let is_new = arms.iter().all(|arm| arm.sources != sources);
            if is_new && !sources.is_empty() {
                arms.push(Arm::new(name, &sources));
            }
        };
        add("trending (floor)".into(), vec![SourceKind::Trending]);
        if ablate {
            for &kind in sources {
                add(kind.name().into(), vec![kind]);
            }
            for &kind in sources {
                add(format!("without {}", kind.name()), without(sources, kind));
            }
        }
        arms
    }

    /// Adds what shows the worth of moving vectors to arms of which the first is the blend:
    /// `nearest` alone and with trending, each with its control, `nearest` also with frozen vectors
    /// lifted by popularity, and the controls of the blend.
    pub fn add_controls(arms: &mut Vec<Arm>, controls: Controls) {
        let Some(sources) = arms.first().map(|blend| blend.sources.clone()) else { return };
        if !sources.contains(&SourceKind::Nearest) {
            return;
        }
        if controls.frozen {
            let alone = [SourceKind::Nearest];
            let lifted = [SourceKind::Nearest, SourceKind::Trending];
            let of_blend: &[SourceKind] = &sources;
            for (name, sources) in
                [("blend", of_blend), ("nearest", &alone), ("nearest × trending", &lifted)]
            {
                let place = place_of(arms, name, sources);
                let control = Arm::new(format!("{name}, frozen"), sources);
                let (vectors, control_of) = (Vectors::Frozen, Some(place));
                arms.push(Arm { vectors, control_of, ..control });
            }
            let place = place_of(arms, "nearest", &alone);
            for lift in LIFTS {
                let control = Arm::new(format!("nearest, frozen × popularity^{lift}"), &alone);
                let (vectors, control_of) = (Vectors::Frozen, Some(place));
                arms.push(Arm { vectors, lifted_by: Some(lift), control_of, ..control });
            }
        }
        if controls.off {
            let rest = without(&sources, SourceKind::Nearest);
            if !rest.is_empty() {
                let control = Arm::new("blend, no vectors", &rest);
                arms.push(Arm { control_of: Some(0), ..control });
            }
        }
    }
}

/// The place of the arm of these sources, which is added where there is none.
fn place_of(arms: &mut Vec<Arm>, name: &str, sources: &[SourceKind]) -> usize {
    let is_it = |arm: &Arm| arm.sources == sources && arm.vectors == Vectors::Online;
    arms.iter().position(is_it).unwrap_or_else(|| {
        arms.push(Arm::new(name, sources));
        arms.len() - 1
    })
}

fn without(sources: &[SourceKind], kind: SourceKind) -> Vec<SourceKind> {
    sources.iter().copied().filter(|&other| other != kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_has_its_arm_and_none_is_there_twice() {
        let mut arms = Arm::all(&SourceKind::ALL, true);
        Arm::add_controls(&mut arms, Controls { frozen: true, off: true });
        let controls: Vec<_> = arms.iter().filter(|arm| arm.control_of.is_some()).collect();
        let pairs = controls.iter().map(|control| {
            let of = &arms[control.control_of.unwrap()];
            assert_eq!(of.vectors, Vectors::Online);
            (of.name.as_str(), control.name.as_str())
        });
        let expected = [
            ("blend", "blend, frozen"),
            ("nearest", "nearest, frozen"),
            ("nearest × trending", "nearest × trending, frozen"),
            ("nearest", "nearest, frozen × popularity^0.1"),
            ("nearest", "nearest, frozen × popularity^0.2"),
            ("nearest", "nearest, frozen × popularity^0.4"),
            ("nearest", "nearest, frozen × popularity^0.8"),
            ("blend", "blend, no vectors"),
        ];
        assert_eq!(pairs.collect::<Vec<_>>(), expected);
        let names: std::collections::HashSet<_> = arms.iter().map(|arm| &arm.name).collect();
        assert_eq!(names.len(), arms.len());
    }

    #[test]
    fn a_blend_without_vectors_needs_no_controls() {
        let mut arms = Arm::all(&[SourceKind::Trending], false);
        Arm::add_controls(&mut arms, Controls { frozen: true, off: true });
        assert_eq!(arms.len(), 1);
    }
}
