//! The detectors tell the positions that River 0.26.1 tells, over the streams of
//! `tests/data/drift/`.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::drift::detectors::{Detector, Parameters, Verdict};

/// A stream: hexadecimal digits, one a value, in lines of 100.
fn stream(name: &str) -> Vec<u8> {
    let file = Path::new("tests/data/drift").join(name).with_extension("txt");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().collect::<String>().chars().map(|c| c.to_digit(16).unwrap() as u8).collect()
}

/// Every parameter is other than its default.
const ODD_ADWIN: &str =
    "name = 'adwin'\ndelta = 0.05\nclock = 7\nmax_buckets = 3\nmin_window = 9\ngrace = 100";

/// Places, from 0, at which the detector tells drift.
fn detections(parameters: &str, values: &[u8]) -> Vec<usize> {
    places(parameters, values, Verdict::Drift)
}

fn places(parameters: &str, values: &[u8], told: Verdict) -> Vec<usize> {
    let parameters: Parameters = toml::from_str(parameters).unwrap();
    let mut detector = Detector::new(&parameters).unwrap();
    let verdicts = values.iter().map(|value| detector.update(f64::from(*value)).unwrap());
    let verdicts: Vec<_> = verdicts.collect();
    (0..values.len()).filter(|place| verdicts[*place] == told).collect()
}

#[test]
fn streams_are_those_that_the_positions_belong_to() {
    let known = [
        ("s1", "9006172df2220c9c"),
        ("s2", "cac4f916ee82ab1e"),
        ("s3", "6294802970ec095f"),
        ("d", "538b22429f97d14c"),
        ("m", "86a96403ecef7884"),
        ("b", "81d3e9a2b979f5c0"),
        ("n", "365713d53d886754"),
    ];
    for (name, first) in known {
        let digest = Sha256::digest(stream(name));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex[..16], first, "{name}");
    }
}

#[test]
fn positions_are_those_of_the_reference() {
    let vectors: &[(&str, &str, &[usize])] = &[
        ("name = 'adwin'", "s1", &[1023]),
        ("name = 'adwin'\nclock = 1", "s1", &[1004]),
        ("name = 'adwin'", "s2", &[1055]),
        ("name = 'adwin'", "d", &[1023]),
        ("name = 'adwin'", "m", &[1023, 2015, 3007]),
        ("name = 'adwin'\ndelta = 0.001", "n", &[1023]),
        ("name = 'adwin'\ndelta = 0.001\nafter_drift = 'shrink'", "n", &[1023, 1087]),
        (ODD_ADWIN, "m", &[1007, 2008, 3009]),
        ("name = 'page_hinkley'", "s1", &[1020, 1397, 1548, 1988]),
        ("name = 'page_hinkley'", "s2", &[1081]),
        ("name = 'page_hinkley'", "d", &[1006]),
        ("name = 'page_hinkley'\nthreshold = 10\ndirection = 'down'", "m", &[2003, 2231, 2861]),
        ("name = 'ddm'", "s2", &[1049]),
        ("name = 'ddm'", "b", &[1334]),
        ("name = 'eddm'", "s2", &[663, 828, 1007, 1078]),
        ("name = 'eddm'", "b", &[103, 255, 328, 618, 690, 745, 798, 942, 1014, 1068]),
        ("name = 'hddm_a'", "s2", &[1047]),
        ("name = 'hddm_a'", "b", &[1206]),
        ("name = 'hddm_a'\ntwo_sided = true", "s3", &[531, 1015, 1545]),
        ("name = 'hddm_w'", "s2", &[1018]),
        ("name = 'hddm_w'", "b", &[1077]),
        ("name = 'hddm_w'\ntwo_sided = true", "s3", &[507, 1032, 1508]),
    ];
    for (parameters, name, expected) in vectors {
        assert_eq!(detections(parameters, &stream(name)), *expected, "{parameters} on {name}");
    }
}

#[test]
fn warnings_are_those_of_the_reference() {
    // By name: how many there are on S2, the first, the last, and the sum of their places.
    let known = [
        ("ddm", 70, 1007, 1875, 92_245),
        ("eddm", 747, 173, 1999, 943_681),
        ("hddm_a", 9, 1038, 1046, 9_378),
        ("hddm_w", 5, 1012, 1017, 5_074),
    ];
    for (name, count, first, last, sum) in known {
        let warnings = places(&format!("name = '{name}'"), &stream("s2"), Verdict::Warning);
        let found = (warnings.len(), warnings[0], warnings[count - 1], warnings.iter().sum());
        assert_eq!(found, (count, first, last, sum), "{name}");
    }
}
