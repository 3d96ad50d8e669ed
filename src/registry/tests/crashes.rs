use super::*;
use crate::time::{DAY_MS, wall_now};

/// A life of a registry; every step is done again until it gets through.
fn life(registry: &Registry) -> Result<(), RegistryError> {
    let [a, b] = [1, 2].map(|n| ModelVersion::from(basis(n).version()));
    registry.register(told(&basis(1)), files(&basis(1)))?;
    if registry.aliases()?.epoch == 0 {
        registry.set_champion(a, &change(0))?;
    }
    let child = Manifest { parent: Some(a), ..told(&basis(2)) };
    registry.register(child, files(&basis(2)))?;
    if registry.aliases()?.epoch == 1 {
        registry.set_champion(b, &change(1))?;
    }
    registry.register(told(&basis(3)), files(&basis(3)))?;
    registry.quarantine(ModelVersion::from(basis(3).version()), "bad", 3)?;
    // Only the third is named by nothing.
    let rules = KeepRules { epochs: 2, young_ms: -DAY_MS, grace_ms: 0 };
    registry.collect(&rules, wall_now())?;
    Ok(())
}

/// What must hold of a registry at any time.
fn check(registry: &Registry) {
    for (_, manifest) in registry.scan().unwrap() {
        registry.verify(&manifest.unwrap()).unwrap();
    }
    let history = registry.history().unwrap();
    assert!(history.iter().rev().map(|aliases| aliases.epoch).eq(1..=history.len() as u64));
    for (_, version) in history.iter().flat_map(Aliases::named) {
        registry.get(version).unwrap();
    }
    registry.quarantines().unwrap();
}

#[test]
fn a_registry_that_dies_at_any_write_is_whole_and_goes_on() {
    for after in [false, true] {
        let mut step = 1;
        loop {
            let memory = Memory::default();
            let died = life(&Registry::open(mortal(&memory, step, after))).is_err();
            let registry = in_memory(&memory);
            check(&registry);
            // A day later nobody waits for the one that died.
            let keep = KeepRules { epochs: 2, young_ms: 9 * DAY_MS, grace_ms: 9 * DAY_MS };
            registry.collect(&keep, wall_now() + 2 * DAY_MS).unwrap();
            life(&registry).unwrap();
            check(&registry);
            let versions: Vec<_> = registry.versions().unwrap();
            assert_eq!(versions.len(), 2);
            let third = ModelVersion::from(basis(3).version());
            assert!(registry.collected(third).unwrap().is_some());
            assert_eq!(registry.aliases().unwrap().epoch, 2);
            // Nothing is left of claims, plans, and what was half there.
            let rest = dump(&memory).into_keys().filter(|key| {
                key.contains("claims") || key.contains("plans") || key.contains(&third.to_string())
            });
            assert_eq!(rest.count(), 2, "its quarantine, and its manifest");
            if !died {
                break;
            }
            step += 1;
        }
        // Each step of it was died at.
        assert!(step > 30, "{step}");
    }
}
