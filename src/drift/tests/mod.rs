mod conformance;
mod detectors;
