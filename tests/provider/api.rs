//! A fake of Aiven's API: one project, services with backups, forks that take their time.

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

pub(crate) const TOKEN: &str = "token-of-the-provider-tests";
pub(crate) const START: &str = "2026-11-23T07:00:10Z";
pub(crate) const END: &str = "2026-11-23T09:12:44.120000Z";

/// What the API holds.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) services: BTreeMap<String, Value>,
    /// When each fork is ready.
    ready: BTreeMap<String, Instant>,
    pub(crate) restore_takes: Duration,
    pub(crate) restore_fails: bool,
    pub(crate) regions_max: usize,
    pub(crate) requests: Vec<String>,
}

/// The fake API.
pub(crate) struct Api {
    pub(crate) url: String,
    pub(crate) state: Arc<Mutex<State>>,
    /// Answers every request with this status while it is not 0.
    pub(crate) outage: Arc<AtomicU16>,
    /// Creates what a POST asks for, and closes the connection instead of answering.
    pub(crate) loses_answers: Arc<AtomicBool>,
}

impl Api {
    /// An API with the service `orders`.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            services: BTreeMap::from([("orders".to_owned(), service("orders", "RUNNING"))]),
            ready: BTreeMap::new(),
            restore_takes: Duration::from_millis(300),
            restore_fails: false,
            regions_max: 3,
            requests: Vec::new(),
        }));
        let outage = Arc::new(AtomicU16::new(0));
        let loses_answers = Arc::new(AtomicBool::new(false));
        let api = Self { url, state, outage, loses_answers };
        let shared = (api.state.clone(), api.outage.clone(), api.loses_answers.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, outage, loses) = shared.clone();
                std::thread::spawn(move || serve(&stream.unwrap(), &state, &outage, &loses));
            }
        });
        api
    }

    /// Changes a service behind Terraform's back.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.state.lock().unwrap().services.get_mut(name).unwrap());
    }

    pub(crate) fn regions(&self, name: &str) -> Value {
        self.state.lock().unwrap().services[name]["user_config"]["additional_backup_regions"]
            .clone()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|line| line.starts_with(start)).count()
    }
}

pub(crate) fn service(name: &str, status: &str) -> Value {
    json!({
        "service_name": name, "service_type": "pg", "cloud_name": "aws-eu-west-1",
        "plan": "startup-4", "state": status, "user_config": {}, "termination_protection": false,
        "create_time": "2026-11-23T06:00:00Z", "update_time": "2026-11-23T06:00:00Z",
        "backups": [], "tags": {}, "metadata": {}, "node_states": [],
    })
}

fn serve(stream: &TcpStream, state: &Mutex<State>, outage: &AtomicU16, loses_answers: &AtomicBool) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let length = header("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let down = outage.load(Ordering::SeqCst);
        let (status, reply) = if down != 0 {
            error(down, "out of order")
        } else if header("authorization") != Some(format!("aivenv1 {TOKEN}")) {
            error(401, "Invalid token")
        } else {
            answer(&mut state.lock().unwrap(), method, path, &body)
        };
        if method == "POST" && loses_answers.load(Ordering::SeqCst) {
            return;
        }
        let text = reply.to_string();
        let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        if (&mut &*stream).write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn error(status: u16, message: &str) -> (u16, Value) {
    (status, json!({"message": message, "errors": [{"message": message, "status": status}]}))
}

fn answer(state: &mut State, method: &str, path: &str, body: &Value) -> (u16, Value) {
    state.requests.push(format!("{method} {path}"));
    finish_forks(state);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let rest = path.strip_prefix("/v1/project/demo/").unwrap_or_default();
    let parts: Vec<&str> = rest.split('/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["clouds"]) => {
            let cloud =
                |name: &str, provider: &str| json!({"cloud_name": name, "provider": provider});
            (
                200,
                json!({"clouds": [
                    cloud("aws-eu-west-1", "aws"), cloud("aws-eu-central-1", "aws"),
                    cloud("aws-eu-north-1", "aws"), cloud("google-europe-west3", "google"),
                ]}),
            )
        }
        ("GET", ["service-types", "pg"]) => (
            200,
            json!({"user_config_schema": {"properties": {
            "additional_backup_regions": {"type": "array", "maxItems": state.regions_max}}}}),
        ),
        ("GET", ["service"]) => {
            (200, json!({"services": state.services.values().collect::<Vec<_>>()}))
        }
        ("POST", ["service"]) => create(state, body),
        (_, ["service", name, ..]) if !state.services.contains_key(*name) => {
            error(404, "Service does not exist")
        }
        ("GET", ["service", name]) => {
            let mut service = state.services[*name].clone();
            if query.contains("include_secrets=true") && service["state"] == "RUNNING" {
                service["service_uri"] =
                    format!("postgres://avnadmin:pw@127.0.0.1:5433/{name}").into();
                service["service_uri_params"] = json!({"host": "127.0.0.1", "port": "5433",
                    "user": "avnadmin", "password": "pw"});
            }
            (200, json!({ "service": service }))
        }
        ("PUT", ["service", name]) => update(state, name, body),
        ("PUT", ["service", name, "tags"]) => {
            state.services.get_mut(*name).unwrap()["tags"] = body["tags"].clone();
            (200, json!({}))
        }
        ("DELETE", ["service", name]) => {
            if state.services[*name]["termination_protection"] == true {
                return error(403, "Service is protected against termination and shutdown.");
            }
            state.services.remove(*name);
            (200, json!({}))
        }
        ("GET", ["service", name, "backups"]) => (200, backups(&state.services[*name])),
        _ => error(404, "no such path"),
    }
}

/// Two base backups, and a window in each secondary region.
fn backups(service: &Value) -> Value {
    let none = Vec::new();
    let regions = service["user_config"]["additional_backup_regions"].as_array().unwrap_or(&none);
    let copies: Vec<Value> =
        regions.iter().map(|cloud| json!({"cloud": cloud, "region": "r"})).collect();
    let backup = |name: &str, time: &str| {
        json!({"backup_name": name, "backup_time": time, "data_size": 1_000_000,
            "storage_location": "aws-eu-west-1", "additional_regions": copies})
    };
    let window = |cloud: &Value| json!({"cloud": cloud, "region": "r", "pitr_range_start": START, "pitr_range_end": END});
    json!({
        "backups": [backup("base-1", "2026-11-23T07:00:00Z"), backup("base-2", "2026-11-23T08:00:00Z")],
        "pitr": {"primary_region": {"pitr_range_start": null, "pitr_range_end": null},
            "additional_regions": regions.iter().map(window).collect::<Vec<_>>()},
    })
}

fn update(state: &mut State, name: &str, body: &Value) -> (u16, Value) {
    let regions = body["user_config"]["additional_backup_regions"].as_array();
    if regions.is_some_and(|regions| regions.len() > state.regions_max) {
        return error(400, "Invalid input: too many backup regions");
    }
    let service = state.services.get_mut(name).unwrap();
    for (key, value) in body["user_config"].as_object().into_iter().flatten() {
        service["user_config"][key] = value.clone();
    }
    for key in ["plan", "termination_protection"] {
        if !body[key].is_null() {
            service[key] = body[key].clone();
        }
    }
    (200, json!({ "service": service }))
}

fn create(state: &mut State, body: &Value) -> (u16, Value) {
    let name = body["service_name"].as_str().unwrap();
    if state.services.contains_key(name) {
        return error(409, "Service name is already in use in this project");
    }
    let source = body["user_config"]["service_to_fork_from"].as_str().unwrap_or_default();
    if !state.services.contains_key(source) {
        return error(404, "The source of the fork is not there");
    }
    let mut fork = service(name, "REBUILDING");
    for (from, to) in [("plan", "plan"), ("cloud", "cloud_name"), ("user_config", "user_config")] {
        fork[to] = body[from].clone();
    }
    for key in ["tags", "termination_protection"] {
        if !body[key].is_null() {
            fork[key] = body[key].clone();
        }
    }
    fork["metadata"] = json!({"btar": {"source": format!("demo/{source}"), "phase": "restoring"}});
    state.services.insert(name.to_owned(), fork.clone());
    state.ready.insert(name.to_owned(), Instant::now() + state.restore_takes);
    (200, json!({ "service": fork }))
}

fn finish_forks(state: &mut State) {
    for (name, at) in &state.ready {
        let Some(fork) = state.services.get_mut(name).filter(|_| Instant::now() >= *at) else {
            continue;
        };
        if state.restore_fails {
            fork["metadata"]["btar"]["phase"] = "failed".into();
            fork["metadata"]["btar"]["error"] =
                "segment 000000010000000000000007 is missing".into();
        } else {
            fork["state"] = "RUNNING".into();
            fork["metadata"]["btar"] = json!({"source": "demo/orders", "phase": "ready",
                "base_backup_name": "base-1", "base_backup_time": "2026-11-23T07:00:00Z",
                "recovered_to": "2026-11-23T07:41:12Z"});
        }
    }
}
