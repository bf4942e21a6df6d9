//! A fake of Aiven's API: one project, services with backups, forks that take their time. It refuses
//! what the real one refuses.

use crate::answers;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

pub(crate) const TOKEN: &str = "token-of-the-provider-tests";
pub(crate) const PASSWORD: &str = "hunter2-password-of-the-fork";
pub(crate) const START: &str = "2026-11-23T07:00:10Z";
pub(crate) const END: &str = "2026-11-23T09:12:44.120000Z";

/// What the API holds, and how it behaves.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) services: BTreeMap<String, Value>,
    /// When each fork is ready, and how many more looks it takes.
    pub(crate) forks: BTreeMap<String, (Instant, u32)>,
    pub(crate) restore_takes: Duration,
    /// Looks at a fork until it is ready: Aiven's own provider wants five good ones in a row.
    pub(crate) polls_until_ready: u32,
    pub(crate) restore_fails: bool,
    pub(crate) regions_max: usize,
    /// The `pitr` object, which older types have not.
    pub(crate) has_pitr: bool,
    /// What only the engine tells: ranges, lag, the log's size, a fork's report.
    pub(crate) has_additions: bool,
    /// No base backup has arrived in any secondary region yet.
    pub(crate) is_empty: bool,
    /// Why copying is paused.
    pub(crate) paused: Option<String>,
    pub(crate) lag_seconds: u64,
    /// The last restorable moment.
    pub(crate) end: String,
    /// Statuses of the next answers, with their `Retry-After`.
    pub(crate) failures: VecDeque<(u16, Option<u32>)>,
    /// How long each answer takes.
    pub(crate) delay: Duration,
    /// `METHOD /path` of each request.
    pub(crate) requests: Vec<String>,
    pub(crate) user_agents: Vec<String>,
}

impl State {
    fn new() -> Self {
        Self {
            services: BTreeMap::from([("orders".to_owned(), service("orders", "RUNNING"))]),
            forks: BTreeMap::new(),
            restore_takes: Duration::ZERO,
            polls_until_ready: 0,
            restore_fails: false,
            regions_max: 3,
            has_pitr: true,
            has_additions: true,
            is_empty: false,
            paused: None,
            lag_seconds: 4,
            end: END.to_owned(),
            failures: VecDeque::new(),
            delay: Duration::ZERO,
            requests: Vec::new(),
            user_agents: Vec::new(),
        }
    }
}

/// Counters beside the state.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) connections: AtomicUsize,
    under_way: AtomicUsize,
    /// The most requests that were under way at the same time.
    pub(crate) peak: AtomicUsize,
}

/// The fake API.
pub(crate) struct Api {
    pub(crate) url: String,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) traffic: Arc<Traffic>,
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
        let api = Self {
            url,
            state: Arc::new(Mutex::new(State::new())),
            traffic: Arc::default(),
            outage: Arc::default(),
            loses_answers: Arc::default(),
        };
        let shared = api.handle();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let api = shared.handle();
                api.traffic.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || api.serve(&stream.unwrap()));
            }
        });
        api
    }

    fn handle(&self) -> Self {
        Self {
            url: self.url.clone(),
            state: self.state.clone(),
            traffic: self.traffic.clone(),
            outage: self.outage.clone(),
            loses_answers: self.loses_answers.clone(),
        }
    }

    /// Changes how the API behaves.
    pub(crate) fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// Changes a service behind Terraform's back.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.state.lock().unwrap().services.get_mut(name).unwrap());
    }

    /// Adds services that are running.
    pub(crate) fn add_services(&self, names: impl Iterator<Item = String>) {
        let mut state = self.state.lock().unwrap();
        for name in names {
            state.services.insert(name.clone(), service(&name, "RUNNING"));
        }
    }

    pub(crate) fn regions(&self, name: &str) -> Value {
        self.state.lock().unwrap().services[name]["user_config"]["additional_backup_regions"]
            .clone()
    }

    /// Requests that begin so, such as `GET /v1/project/demo/service/orders`.
    pub(crate) fn count(&self, start: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|line| line.starts_with(start)).count()
    }

    /// Forgets the requests up to now.
    pub(crate) fn forget(&self) {
        self.with(|state| state.requests.clear());
    }

    fn serve(&self, stream: &TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let now = self.traffic.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.traffic.peak.fetch_max(now, Ordering::SeqCst);
            let delay = self.state.lock().unwrap().delay;
            std::thread::sleep(delay);
            let reply = self.reply(&head, &body);
            self.traffic.under_way.fetch_sub(1, Ordering::SeqCst);
            let Some((status, retry_after, text)) = reply else { return };
            let retry = retry_after.map_or(String::new(), |s| format!("retry-after: {s}\r\n"));
            let length = text.len();
            let reply =
                format!("HTTP/1.1 {status} X\r\n{retry}content-length: {length}\r\n\r\n{text}");
            if (&mut &*stream).write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }

    /// Status, `Retry-After` and body; `None` closes the connection without an answer.
    fn reply(&self, head: &str, body: &[u8]) -> Option<(u16, Option<u32>, String)> {
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut state = self.state.lock().unwrap();
        state.requests.push(format!("{method} {path}"));
        state.user_agents.extend(header(head, "user-agent"));
        let down = self.outage.load(Ordering::SeqCst);
        let mut retry_after = None;
        let (status, reply) = if down != 0 {
            answers::error(down, "out of order")
        } else if header(head, "authorization") != Some(format!("aivenv1 {TOKEN}")) {
            answers::error(401, "Invalid token")
        } else if let Some((status, after)) = state.failures.pop_front() {
            retry_after = after;
            answers::error(status, "try later")
        } else {
            let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
            answers::answer(&mut state, method, path, &body)
        };
        let is_lost = method == "POST" && self.loses_answers.load(Ordering::SeqCst);
        (!is_lost).then(|| (status, retry_after, reply.to_string()))
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

pub(crate) fn service(name: &str, status: &str) -> Value {
    json!({
        "service_name": name, "service_type": "pg", "cloud_name": "aws-eu-west-1",
        "plan": "startup-4", "state": status, "user_config": {}, "termination_protection": false,
        "create_time": "2026-11-23T06:00:00Z", "update_time": "2026-11-23T06:00:00Z",
        "project_vpc_id": null, "tags": {}, "metadata": {}, "node_states": [],
        "group_list": ["default"], "service_integrations": [],
    })
}
