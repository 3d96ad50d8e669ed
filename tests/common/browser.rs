//! A real Chromium, spoken to in its DevTools protocol over pipes: no driver and no Node are needed.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENCE, eventually};

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

type Waiting = Arc<Mutex<HashMap<u64, Sender<Value>>>>;

/// A running browser; ended when dropped.
pub struct Browser {
    child: Child,
    input: Mutex<ChildStdin>,
    waiting: Waiting,
    /// Exceptions and errors on the console, of all tabs.
    complaints: Arc<Mutex<Vec<String>>>,
    next: AtomicU64,
    _profile: tempfile::TempDir,
}

/// A page in it.
pub struct Tab<'a> {
    browser: &'a Browser,
    session: String,
}

/// The program; `CHROMIUM` names another.
fn program() -> Option<String> {
    let given = std::env::var("CHROMIUM").ok().filter(|path| !path.is_empty());
    given.or_else(|| {
        let there = |name: &&str| {
            Command::new("sh")
                .args(["-c", "command -v \"$0\"", name])
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        NAMES.into_iter().find(|name| there(name)).map(str::to_owned)
    })
}

impl Browser {
    /// None where there is no Chromium on this machine.
    pub fn start() -> Option<Self> {
        let program = program()?;
        let profile = tempfile::tempdir().expect("a folder");
        // It speaks on descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#, &program])
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--disable-component-update"])
            // Ten tabs are one browser's: none of them may sleep.
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            .args(["--disable-backgrounding-occluded-windows", "--force-color-profile=srgb"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let input = Mutex::new(child.stdin.take().expect("a pipe"));
        let output = child.stdout.take().expect("a pipe");
        let (waiting, complaints) = (Waiting::default(), Arc::default());
        let (answers, heard) = (Arc::clone(&waiting), Arc::clone(&complaints));
        std::thread::spawn(move || listen(output, &answers, &heard));
        let next = AtomicU64::new(1);
        Some(Self { child, input, waiting, complaints, next, _profile: profile })
    }

    fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = channel();
        self.waiting.lock().expect("a lock").insert(id, answer);
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let mut input = self.input.lock().expect("a lock");
        input.write_all(&bytes).and_then(|()| input.flush()).expect("the browser runs");
        drop(input);
        let answer = answered.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{method}: silent"));
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// A page of this size that shows `url`.
    pub fn open(&self, url: &str, width: u32, height: u32) -> Tab<'_> {
        let made = self.call(None, "Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": made["targetId"], "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", attach);
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let tab = Tab { browser: self, session };
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({}));
        }
        // Pages draw what is looked at: all of them are.
        tab.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true}));
        tab.resize(width, height);
        tab.call("Page.navigate", json!({ "url": url }));
        eventually("the page is loaded", || {
            (tab.eval("document.readyState") == "complete"
                && tab.eval("location.href") != "about:blank")
                .then_some(())
        });
        tab
    }

    /// What pages complained of so far.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().expect("a lock").clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(output: impl std::io::Read, waiting: &Waiting, complaints: &Mutex<Vec<String>>) {
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    while output.read_until(0, &mut bytes).is_ok_and(|n| n > 0) {
        bytes.pop();
        let Ok(message) = serde_json::from_slice::<Value>(&bytes) else { break };
        bytes.clear();
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                complaints.lock().expect("a lock").push(params["exceptionDetails"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                complaints.lock().expect("a lock").push(params["entry"].to_string());
            }
            _ => {}
        }
        if let Some(id) = message["id"].as_u64() {
            let asked = waiting.lock().expect("a lock").remove(&id);
            if let Some(asked) = asked {
                let _ = asked.send(message);
            }
        }
    }
    let _ = output.read_to_end(&mut bytes);
}

impl Tab<'_> {
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }

    /// The value of an expression, also where it is promised.
    pub fn eval(&self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let told = self.call("Runtime.evaluate", params);
        assert!(told["exceptionDetails"].is_null(), "{expression}: {told}");
        told["result"]["value"].clone()
    }

    /// What an element says; empty where there is none.
    pub fn text(&self, selector: &str) -> String {
        let expression = format!("document.querySelector({})?.textContent ?? ''", json!(selector));
        self.eval(&expression).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an element says this.
    pub fn wait_text(&self, selector: &str, wanted: &str) -> String {
        let mut last = String::new();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            last = self.text(selector);
            if last.contains(wanted) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let all = self.text("main");
        panic!("{selector} never says {wanted:?} but {last:?}; the page: {all}")
    }

    pub fn click(&self, selector: &str) {
        let expression = format!("document.querySelector({}).click()", json!(selector));
        self.eval(&expression);
    }

    /// Types into what has the focus.
    pub fn write(&self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key, such as `Tab`, `Enter` or `ArrowLeft`.
    pub fn press(&self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "ArrowLeft" => 37,
            _ => 0,
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({"type": kind, "key": key, "code": key,
                "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// `light` or `dark`, as the system would prefer it.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// Writes a picture of the page down to `height` pixels, or of all of it.
    pub fn screenshot(&self, path: &Path, height: Option<u32>) {
        let size = self.eval("[innerWidth, document.documentElement.scrollHeight]");
        let height = height.map_or(size[1].clone(), Value::from);
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": height, "scale": 1});
        let params = json!({"format": "png", "clip": clip, "captureBeyondViewport": true});
        let told = self.call("Page.captureScreenshot", params);
        let data = told["data"].as_str().expect("a picture");
        std::fs::write(path, decoded(data)).expect("a file");
    }
}

/// Base64 (RFC 4648) as bytes.
fn decoded(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = four.iter().fold(0u32, |bits, c| bits << 6 | u32::from(value(*c)));
        let bits = bits << (6 * (4 - four.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}
