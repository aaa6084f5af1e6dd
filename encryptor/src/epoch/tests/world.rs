//! Two sites, their workers, key servers and the connection between them, all in one thread and on one virtual clock.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use qhaul_keyfeed::{KeyId, SourceError};

use super::parts::{Faults, Fingerprint, delivered, exporter, fingerprint, hash, session};

use crate::config::Payload;
use crate::epoch::{Action, Agreement, Terms};
use crate::keys::Combine;
use crate::link::{Message, encode};
use crate::spi::Epoch;

const STEP: Duration = Duration::from_millis(10);

/// What the worker of a site holds.
#[derive(Default)]
struct Worker {
    next: Option<(Epoch, Fingerprint)>,
    active: Option<(Epoch, Fingerprint)>,
    receive: BTreeMap<u8, Fingerprint>,
    news: VecDeque<(Instant, News)>,
}

enum News {
    Switched(Epoch),
    Installed(Epoch),
    Retired(Epoch),
    Probed(Epoch),
}

struct Site {
    agreement: Agreement,
    worker: Worker,
    /// The connection that this end believes in.
    connection: Option<u64>,
    /// When this end notices that its connection is gone.
    notices: Option<Instant>,
    inbox: VecDeque<(Instant, Message, Vec<u8>)>,
    asked: bool,
}

/// What a key server was asked, and when it answers.
enum Errand {
    New { number: usize },
    ById { items: Vec<(u64, KeyId)> },
}

/// A packet on the backhaul.
struct Packet {
    due: Instant,
    to: usize,
    epoch: Epoch,
    key: Fingerprint,
    /// Starts of both sites when it was sent; none if its sender had not heard of the last one.
    starts: Option<[u64; 2]>,
}

pub(super) struct World {
    now: Instant,
    random: u64,
    sites: [Site; 2],
    connections: u64,
    connected_at: Option<Instant>,
    errands: VecDeque<(Instant, usize, u64, Errand)>,
    packets: VecDeque<Packet>,
    /// Keys that the other site's key server can deliver, once.
    delivered: HashMap<String, [u8; 32]>,
    installed: HashSet<Fingerprint>,
    starts: [u64; 2],
    next_key: u64,
    switches: [u64; 2],
    seed: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut world = World {
            now: Instant::now(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            sites: [site(0, 0), site(1, 0)],
            connections: 0,
            connected_at: None,
            errands: VecDeque::new(),
            packets: VecDeque::new(),
            delivered: HashMap::new(),
            installed: HashSet::new(),
            starts: [0, 0],
            next_key: 0,
            switches: [0, 0],
            seed,
        };
        world.connected_at = Some(world.now);
        world
    }

    pub(super) fn run(&mut self, span: Duration, faults: &Faults) {
        let end = self.now + span;
        while self.now < end {
            self.now += STEP;
            self.step(faults);
            self.check();
        }
    }

    pub(super) fn switches(&self) -> [u64; 2] {
        self.switches
    }

    pub(super) fn assert_active(&self, when: &str) {
        for (end, site) in self.sites.iter().enumerate() {
            assert!(site.worker.active.is_some(), "seed {}: site {end} has no epoch {when}", self.seed);
        }
    }

    pub(super) fn assert_rotating(&mut self) {
        let before = self.switches;
        self.run(Duration::from_secs(5), &Faults::NONE);
        for (end, (after, before)) in self.switches.into_iter().zip(before).enumerate() {
            let rotations = after - before;
            assert!(rotations >= 4, "seed {}: site {end} rotated {rotations} times in 5 s", self.seed);
        }
    }

    fn step(&mut self, faults: &Faults) {
        self.weather(faults);
        self.connect(faults);
        for end in 0..2 {
            self.deliver(end, faults);
            self.worker_news(end, faults);
            let exporter = exporter(self.sites[end].connection);
            let actions = self.sites[end].agreement.tick(self.now, &mut { exporter });
            self.carry_out(end, actions, faults);
            self.ask_for_keys(end);
        }
        self.run_errands(faults);
        self.traffic();
    }

    /// Each sender sends at each step, and what arrives must open, unless an end was started anew meanwhile.
    fn traffic(&mut self) {
        for to in 0..2 {
            if let Some((epoch, key)) = self.sites[1 - to].worker.active {
                let due = self.now + Duration::from_millis(self.below(200));
                let starts = (!self.lost_by_restart(1 - to, to)).then_some(self.starts);
                self.packets.push_back(Packet { due, to, epoch, key, starts });
            }
        }
        let (arrived, flying): (Vec<_>, Vec<_>) =
            self.packets.drain(..).partition(|packet| self.now >= packet.due);
        self.packets.extend(flying);
        for Packet { to, epoch, key, starts, .. } in arrived {
            let opens = self.sites[to].worker.receive.get(&epoch.into()) == Some(&key);
            let undisturbed = starts == Some(self.starts);
            assert!(opens || !undisturbed, "seed {}: a packet of epoch {epoch} does not open", self.seed);
        }
    }

    fn weather(&mut self, faults: &Faults) {
        if self.chance(faults.breaks) {
            self.break_connection();
        }
        for end in 0..2 {
            if self.chance(faults.restarts) {
                self.starts[end] += 1;
                self.sites[end] = site(end, self.starts[end]);
                self.break_connection();
            }
        }
    }

    /// A part of what is on its way is lost, and each end notices in its own time.
    fn break_connection(&mut self) {
        for end in 0..2 {
            let delay = self.below(3000);
            let keep = self.below(4) as usize;
            let site = &mut self.sites[end];
            if site.connection.is_some() {
                site.inbox.truncate(keep);
                site.notices = Some(self.now + Duration::from_millis(delay));
            }
        }
        let pause = self.below(2000);
        self.connected_at = Some(self.now + Duration::from_millis(pause));
    }

    fn connect(&mut self, faults: &Faults) {
        for end in 0..2 {
            if self.sites[end].notices.is_some_and(|moment| self.now >= moment) {
                let site = &mut self.sites[end];
                (site.notices, site.connection) = (None, None);
                site.inbox.clear();
                site.agreement.disconnected();
            }
        }
        if self.connected_at.is_some_and(|moment| self.now >= moment) {
            self.connected_at = None;
            self.connections += 1;
            for end in 0..2 {
                let site = &mut self.sites[end];
                (site.connection, site.notices) = (Some(self.connections), None);
                site.inbox.clear();
            }
            for end in 0..2 {
                let actions = self.sites[end].agreement.connected();
                self.carry_out(end, actions, faults);
            }
        }
    }

    fn deliver(&mut self, end: usize, faults: &Faults) {
        while self.sites[end].inbox.front().is_some_and(|(due, ..)| self.now >= *due) {
            let Some((_, message, bytes)) = self.sites[end].inbox.pop_front() else { break };
            let mut exporter = exporter(self.sites[end].connection);
            let heard = self.sites[end].agreement.heard(self.now, message, &bytes, &mut exporter);
            let actions = heard.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            self.carry_out(end, actions, faults);
        }
    }

    fn worker_news(&mut self, end: usize, faults: &Faults) {
        while self.sites[end].worker.news.front().is_some_and(|(due, _)| self.now >= *due) {
            let Some((_, news)) = self.sites[end].worker.news.pop_front() else { break };
            let agreement = &mut self.sites[end].agreement;
            let actions = match news {
                News::Switched(epoch) => agreement.tx_switched(self.now, epoch),
                News::Installed(epoch) => agreement.rx_installed(epoch),
                News::Probed(epoch) => agreement.probed(epoch),
                News::Retired(epoch) => {
                    agreement.rx_retired(epoch);
                    Vec::new()
                }
            };
            self.carry_out(end, actions, faults);
        }
    }

    fn carry_out(&mut self, end: usize, actions: Vec<Action>, faults: &Faults) {
        for action in actions {
            match action {
                Action::Say(message) => {
                    self.post(end, message.clone(), encode(&message)[4..].to_vec(), faults)
                }
                Action::SayOffer { offer, record } => {
                    self.post(end, offer, record[4..].to_vec(), faults);
                }
                Action::HangUp => self.break_connection(),
                Action::Fetch(items) => self.errand(end, Errand::ById { items }),
                Action::InstallTx { epoch, key, .. } => {
                    let fingerprint = fingerprint(&key);
                    assert!(
                        self.installed.insert(fingerprint),
                        "seed {}: a key was installed twice",
                        self.seed
                    );
                    self.sites[end].worker.next = Some((epoch, fingerprint));
                }
                Action::Probe(epoch) => self.probe(end, epoch, faults),
                Action::SwitchTx(epoch) => {
                    let worker = &mut self.sites[end].worker;
                    if let Some(next) = worker.next.take_if(|next| next.0 == epoch) {
                        worker.active = Some(next);
                        self.switches[end] += 1;
                        self.news(end, News::Switched(epoch));
                    }
                }
                Action::WithdrawTx => {
                    let worker = &mut self.sites[end].worker;
                    (worker.active, worker.next) = (None, None);
                }
                Action::InstallRx { epoch, key, .. } => {
                    self.sites[end].worker.receive.insert(epoch.into(), fingerprint(&key));
                    self.news(end, News::Installed(epoch));
                }
                Action::RetireRx(epoch) => {
                    self.sites[end].worker.receive.remove(&epoch.into());
                    self.news(end, News::Retired(epoch));
                }
            }
        }
    }

    /// A probe is opened if the other end has the same key under this number.
    fn probe(&mut self, end: usize, epoch: Epoch, faults: &Faults) {
        let Some((_, key)) = self.sites[end].worker.next.filter(|next| next.0 == epoch) else { return };
        let same = self.sites[1 - end].worker.receive.get(&epoch.into()) == Some(&key);
        if same && !self.chance(faults.probe_loss) {
            self.news(1 - end, News::Probed(epoch));
        }
    }

    fn news(&mut self, end: usize, news: News) {
        let due = self.now + Duration::from_millis(self.below(30));
        self.sites[end].worker.news.push_back((due, news));
    }

    fn post(&mut self, from: usize, message: Message, bytes: Vec<u8>, faults: &Faults) {
        let (here, there) = (self.sites[from].connection, self.sites[1 - from].connection);
        if here.is_none() || here != there || self.sites[from].notices.is_some() {
            return;
        }
        let held = if self.chance(faults.holds) { 2100 + self.below(1500) } else { 0 };
        let due = self.now + Duration::from_millis(self.below(40) + held);
        let greeting = matches!(message, Message::Hello(_));
        let (repeat, overtake) = (self.chance(faults.repeats), self.chance(faults.overtakes));
        let inbox = &mut self.sites[1 - from].inbox;
        if repeat && !greeting {
            inbox.push_back((due, message.clone(), bytes.clone()));
        }
        if overtake && !greeting && inbox.iter().all(|(_, waiting, _)| !matches!(waiting, Message::Hello(_)))
        {
            inbox.push_front((due, message, bytes));
        } else {
            inbox.push_back((due, message, bytes));
        }
    }

    fn ask_for_keys(&mut self, end: usize) {
        let number = self.sites[end].agreement.keyring().wants();
        if number > 0 && !self.sites[end].asked {
            self.sites[end].asked = true;
            self.errand(end, Errand::New { number });
        }
    }

    fn errand(&mut self, end: usize, errand: Errand) {
        let due = self.now + Duration::from_millis(5 + self.below(100));
        self.errands.push_back((due, end, self.starts[end], errand));
    }

    fn run_errands(&mut self, faults: &Faults) {
        let (due, waiting): (Vec<_>, Vec<_>) = self.errands.drain(..).partition(|(due, ..)| self.now >= *due);
        self.errands.extend(waiting);
        for (_, end, start, errand) in due {
            if start != self.starts[end] {
                continue;
            }
            match errand {
                Errand::New { number } => self.new_keys(end, number, faults),
                Errand::ById { items } => self.keys_by_id(end, items, faults),
            }
        }
    }

    fn new_keys(&mut self, end: usize, number: usize, faults: &Faults) {
        self.sites[end].asked = false;
        if self.chance(faults.key_outage) {
            return;
        }
        let mut keys = Vec::new();
        for _ in 0..number {
            self.next_key += 1;
            let id = format!("key-{}", self.next_key);
            let bytes = hash(&[id.as_bytes(), &self.seed.to_be_bytes()]);
            if !self.chance(faults.key_lost) {
                let there = if self.chance(faults.key_wrong) { hash(&[b"wrong", &bytes]) } else { bytes };
                self.delivered.insert(id.clone(), there);
            }
            keys.push(delivered(&id, bytes));
        }
        self.sites[end].agreement.keyring().fetched_new(keys);
    }

    fn keys_by_id(&mut self, end: usize, items: Vec<(u64, KeyId)>, faults: &Faults) {
        let outage = self.chance(faults.key_outage);
        let answers = items.into_iter().map(|(place, id)| {
            let found = if outage { None } else { self.delivered.remove(id.as_str()) };
            let trouble = match outage {
                true => SourceError::Empty { message: "out of order".into() },
                false => SourceError::NotFound { message: "no such key".into() },
            };
            let answer = found.map(|bytes| delivered(id.as_str(), bytes)).ok_or(trouble);
            (place, id, answer)
        });
        let answers = answers.collect();
        let action = self.sites[end].agreement.keyring().fetched_by_id(self.now, answers);
        self.carry_out(end, action.into_iter().collect(), faults);
    }

    /// What must hold at every moment.
    fn check(&self) {
        for (sender, receiver) in [(0, 1), (1, 0)] {
            let Some((epoch, key)) = self.sites[sender].worker.active else { continue };
            match self.sites[receiver].worker.receive.get(&epoch.into()) {
                Some(held) => assert_eq!(*held, key, "seed {}: two keys in use in epoch {epoch}", self.seed),
                None => assert!(
                    self.lost_by_restart(sender, receiver),
                    "seed {}: site {receiver} gave up epoch {epoch} while site {sender} uses it",
                    self.seed
                ),
            }
        }
    }

    /// A receiver that was started anew holds nothing, until its sender hears of it.
    fn lost_by_restart(&self, sender: usize, receiver: usize) -> bool {
        let known = self.sites[sender].agreement.sender().last_session();
        known != Some(session(receiver, self.starts[receiver]))
    }

    fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && (self.below(1_000_000) as f64) < chance * 1_000_000.0
    }

    /// splitmix64, so that a seed gives the same schedule for ever.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn site(end: usize, start: u64) -> Site {
    let names = ["a".to_string(), "b".to_string()];
    let terms = Terms {
        link: "l".into(),
        sae: names[end].clone(),
        peer_sae: names[1 - end].clone(),
        mode: Payload::Ethernet,
        key_source: "etsi014".into(),
        combine: Combine::QKD_PQC,
        psk: None,
        session: session(end, start),
        rotate: Duration::from_secs(1),
        grace: Duration::from_secs(1),
        hard_limit: Duration::from_secs(60),
    };
    Site {
        agreement: Agreement::new(terms, 16, 8, 1),
        worker: Worker::default(),
        connection: None,
        notices: None,
        inbox: VecDeque::new(),
        asked: false,
    }
}
