//! Golden lists: what histories must give over a basis. They are made where it is trained, and made
//! again wherever it is loaded: a basis whose bytes are right, and that this build or machine reads in
//! another way, is found out before it serves.

use crate::event::GoldenList;
use crate::model::vector::dot;
use crate::model::{Basis, Position};

/// Items of a golden list.
const TOP: usize = 20;
/// How far a score may be from the one that was written down, of the largest in its list. Sums in
/// another order differ by a hundredth of this.
const TOLERANCE: f32 = 1e-4;

/// The lists of these histories, each the newest item first. Histories of which the basis knows
/// nothing give none.
pub fn golden_lists(basis: &Basis, histories: &[Vec<String>]) -> Vec<GoldenList> {
    let list = |history: &Vec<String>| {
        let nearest = nearest(basis, history)?;
        let items = nearest.iter().map(|(place, _)| basis.items()[*place].to_string()).collect();
        let scores = nearest.iter().map(|(_, score)| *score).collect();
        Some(GoldenList { history: history.clone(), items, scores })
    };
    histories.iter().filter_map(list).collect()
}

/// Makes the lists again and compares.
///
/// # Errors
/// Says which list differs, and how.
pub fn verify_golden(basis: &Basis, golden: &[GoldenList]) -> Result<(), String> {
    for (number, list) in golden.iter().enumerate() {
        let found = nearest(basis, &list.history)
            .ok_or_else(|| format!("golden list {number}: the basis knows none of its history"))?;
        if found.len() != list.items.len() || found.len() != list.scores.len() {
            let (has, wants) = (found.len(), list.items.len());
            return Err(format!("golden list {number} has {has} items in place of {wants}"));
        }
        let largest = list.scores.iter().fold(0f32, |largest, score| largest.max(score.abs()));
        let tolerated = TOLERANCE * largest.max(f32::MIN_POSITIVE);
        // What is no number is close to none.
        let is_close = |a: f32, b: f32| (a - b).abs() <= tolerated;
        // By rank, since equals may change places.
        for ((place, score), (item, expected)) in
            found.iter().zip(list.items.iter().zip(&list.scores))
        {
            let named = &basis.items()[*place];
            if !is_close(*score, *expected) {
                return Err(format!(
                    "golden list {number} wants {item} at {expected} where {named} has {score}"
                ));
            }
        }
    }
    Ok(())
}

/// The places and scores of the items nearest to a history's user, but for those of the history.
fn nearest(basis: &Basis, history: &[String]) -> Option<Vec<(usize, f32)>> {
    let mut solver = basis.solver();
    let places: Vec<Option<Position>> = history.iter().map(|item| basis.position(item)).collect();
    let user = basis.fold_in(&mut solver, places.iter().copied())?.to_vec();
    let mut scored: Vec<(usize, f32)> = (0..basis.items().len())
        .filter(|place| !places.contains(&Some(Position(*place as u32))))
        .map(|place| (place, dot(basis.trained(Position(place as u32)).vector, &user)))
        .collect();
    let before = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let top = TOP.min(scored.len());
    if top < scored.len() {
        scored.select_nth_unstable_by(top, before);
        scored.truncate(top);
    }
    scored.sort_by(before);
    Some(scored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ItemId;
    use crate::model::ials::IalsConfig;
    use crate::model::{Dim, HistoryWeights, Hyperparameters, Training, Vectors};
    use crate::time::EventTime;

    fn basis(shift: f32) -> Basis {
        let items = 60;
        let dim = Dim::new(8).unwrap();
        let value = |n: usize| ((n * 37 % 101) as f32 - 50.0) / 50.0 + shift * (n % 7) as f32;
        let config = IalsConfig { dim, ..IalsConfig::VIDEOS };
        let training = Training {
            items: (0..items).map(|n| ItemId::new(format!("v{n}"))).collect(),
            counts: vec![1; items],
            vectors: Vectors::from_values(dim, (0..items * 8).map(value).collect()).unwrap(),
            hyperparameters: Hyperparameters::new(&config, HistoryWeights::VIDEOS),
            watermark: EventTime::from_millis(5),
        };
        Basis::seal(training, [[Position(0)]], 1).unwrap()
    }

    fn histories() -> Vec<Vec<String>> {
        let item = |n: usize| format!("v{n}");
        vec![vec![item(1), item(2)], vec![item(40)], vec!["unknown".into()]]
    }

    #[test]
    fn a_basis_gives_its_own_lists_and_another_one_does_not() {
        let basis_of_lists = basis(0.0);
        let golden = golden_lists(&basis_of_lists, &histories());
        assert_eq!(golden.len(), 2, "of an unknown history there is no list");
        assert_eq!(golden[0].items.len(), TOP);
        assert!(!golden[0].items.contains(&"v1".to_owned()));
        assert_eq!(verify_golden(&basis_of_lists, &golden), Ok(()));
        let refused = verify_golden(&basis(0.01), &golden).unwrap_err();
        assert!(refused.contains("golden list 0"), "{refused}");
        let mut broken = golden.clone();
        broken[1].scores[3] = f32::NAN;
        assert!(verify_golden(&basis_of_lists, &broken).is_err(), "what is no number equals none");
        broken[1].scores.pop();
        assert!(verify_golden(&basis_of_lists, &broken).is_err());
    }
}
