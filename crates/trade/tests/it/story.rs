//! Story: three desks, a node and a mailbox for each, nothing goes wrong unless the story says so.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::hashes::{Hash, sha256};
use trade::{
    Append, BidOrder, Bill, BondFate, Command, Desk, Effect, Entry, Envelope, EscrowTerms, Event, FiatSide, FiatTerms,
    Input, InvoiceFacts, LegId, Listing, Message, MessageId, Mode, Money, NodeReport, Notice, OnSilence, Outcome,
    Outgoing, OwnNode, PartyKey, Refusal, Reveal, Step, Trade, TradeId, secret,
};
use units::{Height, Msat, Now, PaymentHash, Preimage, Sat, Unix};

pub(crate) const PAYER: usize = 0;
pub(crate) const PAYEE: usize = 1;
pub(crate) const ARBITER: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Open,
    Held(Height),
    Settled,
    Canceled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payment {
    InFlight,
    Taken(Preimage),
    Returned,
}

/// A predicate on effects of one party that are not carried out for now.
type Blocked = (usize, fn(&Effect) -> bool);

pub(crate) struct Story {
    pub(crate) desks: [Desk; 3],
    pub(crate) log: [Vec<Entry>; 3],
    /// Lengths that each log had: what is appended at once is there whole or not at all.
    pub(crate) appended: [Vec<usize>; 3],
    pub(crate) now: Now,
    pub(crate) holds: BTreeMap<(usize, PaymentHash), (Hold, Msat, u16, Unix)>,
    pub(crate) payments: BTreeMap<(usize, PaymentHash), Payment>,
    mail: VecDeque<(usize, Envelope)>,
    /// Every copy that was delivered, by who got it.
    pub(crate) heard: Vec<(usize, Envelope)>,
    pub(crate) said: Vec<Outgoing>,
    pub(crate) shown: Vec<(usize, Notice)>,
    pub(crate) blocked: Vec<Blocked>,
    /// Mail to these parties waits.
    pub(crate) deaf: Vec<usize>,
    /// The nodes say nothing of this hash.
    pub(crate) unreported: Option<PaymentHash>,
    pub(crate) tamper: Option<fn(&mut InvoiceFacts)>,
    pub(crate) terms: EscrowTerms,
    /// What the arbiter charges, and what the payer agrees to pay it.
    pub(crate) fee: Sat,
    pub(crate) max_fee: Sat,
    /// The fee's payment finds no route.
    pub(crate) no_route: bool,
    /// Times that the fee was sent off.
    pub(crate) fees_sent: usize,
    /// The listing is an order for bitcoin against money of a country.
    pub(crate) fiat: Option<FiatTerms>,
    /// The trade.
    pub(crate) id: TradeId,
}

pub(crate) fn key(who: usize) -> PartyKey {
    PartyKey([who as u8 + 1; 32])
}

pub(crate) fn node_id(who: usize) -> String {
    format!("{:066x}", who + 2)
}

fn escrow_key(who: usize) -> [u8; 32] {
    [who as u8 + 0x40; 32]
}

fn own_node(who: usize) -> OwnNode {
    OwnNode { network: "regtest".to_owned(), node_id: node_id(who), auto_cancel_margin: 39 }
}

pub(crate) fn bonded() -> EscrowTerms {
    EscrowTerms {
        mode: Mode::Bonded,
        arbiters: vec![key(ARBITER)],
        arbiter_release: true,
        min_payer_bond: Sat(5_000),
        payee_bond: Sat(2_000),
        lock_blocks: 720,
        tranches: 2,
        on_silence: OnSilence::Release,
    }
}

pub(crate) fn arbitrated() -> EscrowTerms {
    EscrowTerms {
        mode: Mode::Arbitrated,
        arbiter_release: false,
        min_payer_bond: Sat::ZERO,
        payee_bond: Sat::ZERO,
        on_silence: OnSilence::Refund,
        ..bonded()
    }
}

pub(crate) fn direct() -> EscrowTerms {
    EscrowTerms { lock_blocks: 720, ..EscrowTerms::plain() }
}

pub(crate) fn listing(terms: EscrowTerms) -> Listing {
    Listing {
        d: "lamp".to_owned(),
        product_name: "a lamp".to_owned(),
        description: "brass, as new".to_owned(),
        price: Sat(20_000),
        category: None,
        storage_link: None,
        shipping: None,
        escrow: Some(terms),
        fiat: None,
    }
}

/// What stands for the event that an author signed.
pub(crate) fn money(text: &str) -> Money {
    text.parse().expect("fine")
}

/// 50 to 200 euro, 2 % above the rate.
pub(crate) fn fiat_terms(side: FiatSide) -> FiatTerms {
    FiatTerms {
        side,
        currency: "EUR".parse().expect("fine"),
        min: money("50"),
        max: money("200"),
        premium_percent: "2".parse().expect("fine"),
        methods: vec!["SEPA".to_owned(), "Revolut".to_owned()],
        max_quote_age_secs: 600,
        answers: None,
    }
}

pub(crate) fn signed(envelope: &Envelope) -> String {
    serde_json::to_string(envelope).expect("it is written")
}

pub(crate) fn accept() -> Command {
    Command::Accept { shipping_time_days: Some(1), terms: None, invoice_expiry_secs: 7200 }
}

pub(crate) fn ship() -> Command {
    Command::Ship { note: "by post".to_owned(), tracking: Some("RR123".to_owned()) }
}

pub(crate) fn release() -> Command {
    Command::Release { rating: Some(5), feedback: None }
}

pub(crate) fn dispute() -> Command {
    Command::Dispute { reason: "not as described".to_owned(), details: "it is tin".to_owned() }
}

pub(crate) fn cancel() -> Command {
    Command::Cancel { agreement: "let us stop".to_owned() }
}

pub(crate) fn refund() -> Command {
    Command::Refund { reason: "broken in the store".to_owned() }
}

pub(crate) fn rule(payee_tranches: u8, payer_bond: BondFate, payee_bond: BondFate) -> Command {
    Command::Rule { payee_tranches, payer_bond, payee_bond, resolution: "so be it".to_owned() }
}

/// An id that only author and step decide, so that every story has the same.
pub(crate) fn message_id(author: PartyKey, step: Step) -> MessageId {
    MessageId(sha256::Hash::hash(format!("{author}{step:?}").as_bytes()).to_byte_array())
}

impl Story {
    /// The payee has listed; nobody has bid.
    pub(crate) fn listed(terms: EscrowTerms) -> Story {
        Story::listed_for(terms, None)
    }

    /// The payee has listed goods, or an order for bitcoin against money of a country.
    pub(crate) fn listed_for(terms: EscrowTerms, fiat: Option<FiatTerms>) -> Story {
        let listing_id = message_id(key(PAYEE), Step::Listing(0));
        let mut story = Story {
            desks: [0, 1, 2].map(|who| Desk::new(own_node(who))),
            log: Default::default(),
            appended: Default::default(),
            now: Now { height: Height(1000), unix: Unix(1_700_000_000) },
            holds: BTreeMap::new(),
            payments: BTreeMap::new(),
            mail: VecDeque::new(),
            heard: Vec::new(),
            said: Vec::new(),
            shown: Vec::new(),
            blocked: Vec::new(),
            deaf: Vec::new(),
            unreported: None,
            tamper: None,
            fee: Sat::ZERO,
            max_fee: Sat::ZERO,
            no_route: false,
            fees_sent: 0,
            id: TradeId::of(listing_id, key(PAYER)),
            terms,
            fiat,
        };
        story.desks[ARBITER].serve_as(key(ARBITER));
        let stream = TradeId::of_stall(key(PAYEE), "lamp");
        let command = Command::List { me: key(PAYEE), listing: Box::new(story.listing()), stock: 1 };
        story.feed(PAYEE, stream, Input::Command(command)).expect("a listing is fine");
        story.go();
        story
    }

    /// The payer has bid, the arbiter serves: the payee has to answer.
    pub(crate) fn bid(terms: EscrowTerms) -> Story {
        let mut story = Story::listed(terms);
        story.open();
        story.serve();
        story
    }

    /// As [`Story::bid`], with an arbiter that charges.
    pub(crate) fn bid_with_fee(terms: EscrowTerms, fee: Sat, max: Sat) -> Story {
        let mut story = Story::listed(terms);
        (story.fee, story.max_fee) = (fee, max);
        story.open();
        story.serve();
        story
    }

    /// The payee accepted and every leg is locked.
    pub(crate) fn held(terms: EscrowTerms) -> Story {
        let mut story = Story::bid(terms);
        story.want(PAYEE, accept());
        assert_eq!(story.states()[..2], ["Held", "Held"]);
        story
    }

    /// The goods are under way.
    pub(crate) fn shipped(terms: EscrowTerms) -> Story {
        let mut story = Story::held(terms);
        story.want(PAYEE, ship());
        assert_eq!(story.states()[..2], ["Shipped", "Shipped"]);
        story
    }

    /// The payer disputed.
    pub(crate) fn disputed(terms: EscrowTerms) -> Story {
        let mut story = Story::shipped(terms);
        story.want(PAYER, dispute());
        assert_eq!(story.states(), ["Disputed", "Disputed", "Disputed"]);
        story
    }

    fn listing(&self) -> Listing {
        Listing { fiat: self.fiat.clone(), ..listing(self.terms.clone()) }
    }

    pub(crate) fn bid_order(&self) -> BidOrder {
        let id = message_id(key(PAYEE), Step::Listing(0));
        BidOrder {
            me: key(PAYER),
            listing: Envelope {
                id,
                author: key(PAYEE),
                prev: None,
                at: Unix(1_700_000_000),
                message: Message::Listing(self.listing()),
                invoices: Vec::new(),
                via: None,
                signed: None,
            },
            amount: Sat(20_000),
            payer_bond: self.terms.min_payer_bond,
            arbiter: self.terms.arbiters.first().copied(),
            payment_hashes: self.price_hashes(0),
            payee_node: Some(node_id(PAYEE)),
            message: None,
            timeout_hours: 24,
            quantity: 1,
            pay_by_hand: false,
            max_arbiter_fee: self.max_fee,
            fiat: None,
        }
    }

    /// The payer bids.
    pub(crate) fn open(&mut self) {
        let order = self.bid_order();
        self.want(PAYER, Command::Bid(Box::new(order)));
    }

    pub(crate) fn price_hashes(&self, round: u8) -> Vec<PaymentHash> {
        (0..self.terms.tranches).map(|t| self.secret(PAYER, LegId::price(round, t)).hash()).collect()
    }

    pub(crate) fn secret(&self, who: usize, leg: LegId) -> Preimage {
        secret::derive(&escrow_key(who), self.id, leg)
    }

    pub(crate) fn serve_command(&self, round: u8) -> Command {
        let hash = |bond: Sat, leg: LegId| (bond > Sat::ZERO).then(|| self.secret(ARBITER, leg).hash());
        Command::Serve {
            payer_bond_hash: hash(self.terms.min_payer_bond, LegId::payer_bond(round)),
            payee_bond_hash: hash(self.terms.payee_bond, LegId::payee_bond(round)),
            fee: if round == 0 { self.fee } else { Sat::ZERO },
            fee_invoice: (round == 0 && self.fee > Sat::ZERO).then(|| self.bill()),
            policy: "fair".to_owned(),
        }
    }

    /// The secret of the arbiter's ordinary invoice; only its node knows it.
    pub(crate) fn fee_secret(&self) -> Preimage {
        Preimage::new([0x77; 32])
    }

    pub(crate) fn bill(&self) -> Bill {
        let hash = self.fee_secret().hash();
        Bill { hash, invoice: format!("lnfee{hash}"), expires_at: Unix(1_700_000_000 + 3 * 86_400) }
    }

    /// The arbiter serves, where there is one.
    pub(crate) fn serve(&mut self) {
        if !self.terms.arbiters.is_empty() {
            let command = self.serve_command(0);
            self.want(ARBITER, command);
        }
    }

    // ---- telling -----------------------------------------------------------------------------------------------

    /// Somebody wants something, and everything that follows happens.
    pub(crate) fn want(&mut self, who: usize, command: Command) {
        self.try_want(who, command).unwrap_or_else(|refusal| panic!("{who} was refused: {refusal}"));
    }

    pub(crate) fn try_want(&mut self, who: usize, command: Command) -> Result<Vec<Event>, Refusal> {
        let events = self.feed(who, self.id, Input::Command(command))?;
        self.go();
        Ok(events)
    }

    pub(crate) fn feed(&mut self, who: usize, stream: TradeId, input: Input) -> Result<Vec<Event>, Refusal> {
        let append = self.desks[who].handle(stream, &input, self.now)?;
        let refused = append.refused.clone();
        let events = append.events.clone();
        self.append(who, append);
        refused.map_or(Ok(events), Err)
    }

    pub(crate) fn hear(&mut self, who: usize, envelope: Envelope) -> Result<Vec<Event>, Refusal> {
        let append = self.desks[who].receive(envelope, self.now)?;
        let events = append.events.clone();
        self.append(who, append);
        Ok(events)
    }

    fn append(&mut self, who: usize, append: Append) {
        for (seq, event) in (append.expected_seq..).zip(&append.events) {
            self.log[who].push(Entry { stream: append.stream, seq, event: event.clone() });
        }
        self.appended[who].push(self.log[who].len());
        self.desks[who].commit(append).expect("what was decided fits");
        while let Some(envelope) = self.desks[who].next_message() {
            self.mail.push_back((who, envelope));
        }
    }

    /// Everything that can happen by itself happens.
    pub(crate) fn go(&mut self) {
        for _ in 0..200 {
            let mut moved = false;
            for who in 0..3 {
                moved |= self.drain(who);
                while let Some(append) = self.desks[who].due(self.now) {
                    self.append(who, append);
                    moved = true;
                }
            }
            let mail: Vec<(usize, Envelope)> = self.mail.drain(..).collect();
            for (who, envelope) in mail {
                if self.deaf.contains(&who) {
                    self.mail.push_back((who, envelope));
                    continue;
                }
                self.heard.push((who, envelope.clone()));
                moved |= self.hear(who, envelope).is_ok_and(|events| !events.is_empty());
            }
            moved |= self.reports();
            if !moved {
                return;
            }
        }
        panic!("the story never comes to rest: {:?}", self.states());
    }

    /// Nodes tell how everything stands.
    fn reports(&mut self) -> bool {
        let holds = self.holds.clone();
        let payments = self.payments.clone();
        let mut moved = false;
        for ((who, hash), (hold, amount, ..)) in holds {
            if self.unreported == Some(hash) {
                continue;
            }
            let report = match hold {
                Hold::Open => continue,
                Hold::Held(expiry) => NodeReport::Held { hash, amount, expiry },
                Hold::Settled => NodeReport::Settled { hash },
                Hold::Canceled => NodeReport::Canceled { hash },
            };
            moved |= self.report(who, report);
        }
        let fee = self.fee_secret().hash();
        let paid = matches!(self.payments.get(&(PAYER, fee)), Some(Payment::Taken(_)));
        if paid && self.unreported != Some(fee) {
            moved |= self.report(ARBITER, self.received());
        }
        for ((who, hash), payment) in payments {
            if self.unreported == Some(hash) {
                continue;
            }
            let report = match payment {
                Payment::InFlight => NodeReport::PaymentInFlight { hash },
                Payment::Taken(preimage) => NodeReport::PaymentTaken { hash, preimage },
                Payment::Returned => NodeReport::PaymentReturned { hash, reason: String::new() },
            };
            moved |= self.report(who, report);
        }
        moved
    }

    /// What the arbiter's node says when its invoice was paid.
    pub(crate) fn received(&self) -> NodeReport {
        NodeReport::Received { hash: self.fee_secret().hash(), amount: self.fee.to_msat().expect("little") }
    }

    pub(crate) fn report(&mut self, who: usize, report: NodeReport) -> bool {
        let Ok(append) = self.desks[who].report(report, self.now) else { return false };
        let moved = !append.events.is_empty();
        self.append(who, append);
        moved
    }

    fn drain(&mut self, who: usize) -> bool {
        let mut moved = false;
        for (stream, effect) in self.desks[who].pending(self.now) {
            if self.blocked.iter().any(|(blocked, which)| *blocked == who && which(&effect)) {
                continue;
            }
            if !self.desks[who].pending(self.now).contains(&(stream, effect.clone())) {
                continue;
            }
            let input = self.execute(who, stream, &effect);
            moved |= self.feed(who, stream, input).is_ok_and(|events| !events.is_empty());
        }
        moved
    }

    fn execute(&mut self, who: usize, stream: TradeId, effect: &Effect) -> Input {
        match effect {
            Effect::CreateHoldInvoice { hash, amount, min_final_cltv, expiry_secs, .. } => {
                let until = Unix(self.now.unix.0 + u64::from(*expiry_secs));
                self.holds.entry((who, *hash)).or_insert((Hold::Open, *amount, *min_final_cltv, until));
                Input::Node(NodeReport::InvoiceIssued { hash: *hash, invoice: format!("lnstory{who}{hash}") })
            }
            Effect::PayInvoice { hash, amount, not_after, .. } => {
                let other = 1 - who;
                let hold = self.holds.get_mut(&(other, *hash)).expect("the invoice exists");
                let fits = hold.0 == Hold::Open && hold.1 == *amount && self.now.unix <= *not_after;
                if fits {
                    hold.0 = Hold::Held(self.now.height.plus(u32::from(hold.2)));
                }
                let fresh = if fits { Payment::InFlight } else { Payment::Returned };
                self.payments.entry((who, *hash)).or_insert(fresh);
                Input::Node(NodeReport::PaymentInFlight { hash: *hash })
            }
            Effect::PayFee { hash, not_after, .. } => {
                if !self.payments.contains_key(&(who, *hash)) {
                    self.fees_sent += 1;
                    let fails = self.no_route || self.now.unix > *not_after;
                    let fresh = if fails { Payment::Returned } else { Payment::Taken(self.fee_secret()) };
                    self.payments.insert((who, *hash), fresh);
                }
                Input::Node(NodeReport::PaymentInFlight { hash: *hash })
            }
            Effect::Settle { hash, preimage, .. } => {
                assert_eq!(preimage.hash(), *hash);
                let hold = self.holds.get_mut(&(who, *hash)).expect("the invoice exists");
                assert!(matches!(hold.0, Hold::Held(_)), "settling what is not held");
                hold.0 = Hold::Settled;
                self.payments.insert((1 - who, *hash), Payment::Taken(preimage.clone()));
                Input::Node(NodeReport::Settled { hash: *hash })
            }
            Effect::Cancel { hash, .. } => {
                if let Some(hold) = self.holds.get_mut(&(who, *hash)) {
                    assert_ne!(hold.0, Hold::Settled, "canceling what is settled");
                    hold.0 = Hold::Canceled;
                }
                if self.payments.get(&(1 - who, *hash)) == Some(&Payment::InFlight) {
                    self.payments.insert((1 - who, *hash), Payment::Returned);
                }
                Input::Node(NodeReport::Canceled { hash: *hash })
            }
            Effect::Send(outgoing) => self.publish(who, stream, outgoing),
            Effect::Warn(notice) | Effect::Alarm(notice) => {
                self.shown.push((who, notice.clone()));
                Input::Shown { notice: notice.clone() }
            }
        }
    }

    fn publish(&mut self, who: usize, stream: TradeId, outgoing: &Outgoing) -> Input {
        let id = message_id(outgoing.author, outgoing.step);
        let bare = Envelope {
            id,
            author: outgoing.author,
            prev: outgoing.prev,
            at: outgoing.at,
            message: outgoing.message.clone(),
            invoices: self.read(&outgoing.message),
            via: None,
            signed: None,
        };
        let signed = matches!(bare.message, trade::Message::PaymentConfirmation(_)).then(|| signed(&bare));
        for copy in &outgoing.copies {
            let to = (0..3).find(|to| key(*to) == copy.to).expect("a party");
            if let Some(shown) = &copy.shown {
                let shown: Envelope = serde_json::from_str(shown).expect("what was signed");
                self.mail.push_back((to, Envelope { via: Some(outgoing.author), ..shown }));
            }
            let mut envelope = Envelope { signed: signed.clone(), ..bare.clone() };
            let secrets = copy.secrets.iter().map(|reveal| match reveal {
                Reveal::Derive(leg) => secret::derive(&escrow_key(who), stream, *leg),
                Reveal::Known(preimage) => preimage.clone(),
            });
            envelope.message.set_secrets(secrets.collect());
            if let Message::Appointment(appointment) = &mut envelope.message {
                appointment.fee_invoice.clone_from(&copy.fee_invoice);
                envelope.invoices = self.read(&envelope.message);
            }
            self.mail.push_back((to, envelope));
        }
        self.said.push(outgoing.clone());
        Input::Sent { step: outgoing.step, id }
    }

    fn read(&self, message: &Message) -> Vec<InvoiceFacts> {
        let mut facts: Vec<_> = message.invoices().into_iter().map(|invoice| self.facts(invoice)).collect();
        if let Some(tamper) = self.tamper {
            facts.iter_mut().for_each(tamper);
        }
        facts
    }

    pub(crate) fn facts(&self, invoice: &str) -> InvoiceFacts {
        if let Some(hash) = invoice.strip_prefix("lnfee") {
            return InvoiceFacts {
                network: "regtest".to_owned(),
                payee: node_id(ARBITER),
                hash: hash.parse().expect("a hash"),
                amount: self.fee.to_msat().ok(),
                min_final_cltv: 42,
                expires_at: self.bill().expires_at,
                features_known: true,
            };
        }
        let rest = invoice.strip_prefix("lnstory").expect("ours");
        let who: usize = rest[..1].parse().expect("a party");
        let hash: PaymentHash = rest[1..].parse().expect("a hash");
        let (_, amount, min_final_cltv, expires_at) = self.holds[&(who, hash)].clone();
        InvoiceFacts {
            network: "regtest".to_owned(),
            payee: node_id(who),
            hash,
            amount: Some(amount),
            min_final_cltv: u32::from(min_final_cltv) + 3,
            expires_at,
            features_known: true,
        }
    }

    /// Blocks are found, ten minutes each, and everything that is due happens.
    pub(crate) fn blocks(&mut self, count: u32) {
        self.now.height = self.now.height.plus(count);
        self.now.unix = Unix(self.now.unix.0 + u64::from(count) * 600);
        self.go();
    }

    /// Blocks until a height.
    pub(crate) fn until(&mut self, height: Height) {
        self.blocks(height.0 - self.now.height.0);
    }

    /// The fail-back of a held leg by the node itself.
    pub(crate) fn vanish(&mut self, who: usize, hash: PaymentHash) {
        self.holds.get_mut(&(who, hash)).expect("held").0 = Hold::Canceled;
        self.payments.insert((1 - who, hash), Payment::Returned);
        self.go();
    }

    /// A router on the way takes a payment with its secret, and leaves the payee's end held.
    pub(crate) fn steal(&mut self, who: usize, preimage: Preimage) {
        self.payments.insert((who, preimage.hash()), Payment::Taken(preimage));
        self.go();
    }

    /// The daemon dies and comes back with its log.
    pub(crate) fn restart(&mut self, who: usize) {
        let (mut desk, damaged) = Desk::replay(own_node(who), self.log[who].iter().cloned());
        assert_eq!(damaged, []);
        if who == ARBITER {
            desk.serve_as(key(ARBITER));
        }
        self.desks[who] = desk;
    }

    /// Asks the node about every leg that is not final, as a daemon does at its start.
    pub(crate) fn look_up(&mut self, who: usize) {
        for (_, watch) in self.desks[who].watched() {
            let report = match watch {
                trade::Watch::Issued(hash) => self.holds.get(&(who, hash)).and_then(|(hold, amount, ..)| match hold {
                    Hold::Open => None,
                    Hold::Held(expiry) => Some(NodeReport::Held { hash, amount: *amount, expiry: *expiry }),
                    Hold::Settled => Some(NodeReport::Settled { hash }),
                    Hold::Canceled => Some(NodeReport::Canceled { hash }),
                }),
                trade::Watch::Received(_) => {
                    let paid = self.payments.contains_key(&(PAYER, self.fee_secret().hash()));
                    paid.then(|| self.received())
                }
                trade::Watch::Paid(hash) => self.payments.get(&(who, hash)).map(|payment| match payment {
                    Payment::InFlight => NodeReport::PaymentInFlight { hash },
                    Payment::Taken(preimage) => NodeReport::PaymentTaken { hash, preimage: preimage.clone() },
                    Payment::Returned => NodeReport::PaymentReturned { hash, reason: String::new() },
                }),
            };
            if let Some(report) = report {
                self.report(who, report);
            }
        }
    }

    /// The relays bring everything again.
    pub(crate) fn replay_mail(&mut self, who: usize) {
        let heard: Vec<_> = self.heard.iter().filter(|(to, _)| *to == who).cloned().collect();
        self.mail.extend(heard);
    }

    /// What an author said to somebody and is still on its way gets lost.
    pub(crate) fn drop_mail(&mut self, to: usize, author: PartyKey) {
        self.mail.retain(|(who, envelope)| *who != to || envelope.author != author);
    }

    // ---- looking -----------------------------------------------------------------------------------------------

    pub(crate) fn trade(&self, who: usize) -> &Trade {
        self.desks[who].trade(self.id).expect("the trade is known")
    }

    pub(crate) fn states(&self) -> [&'static str; 3] {
        [0, 1, 2].map(|who| self.desks[who].trade(self.id).map_or("-", Trade::state_name))
    }

    pub(crate) fn outcomes(&self) -> [Option<Outcome>; 2] {
        [0, 1].map(|who| self.trade(who).outcome())
    }

    pub(crate) fn envelope(&self, to: usize, author: usize, step: Step) -> Envelope {
        let id = message_id(key(author), step);
        let mut heard = self.heard.iter().chain(&self.mail);
        heard.find(|(who, e)| *who == to && e.id == id).map(|(_, e)| e.clone()).expect("it was said")
    }

    /// How a leg stands at the node that holds it.
    pub(crate) fn hold(&self, leg: LegId) -> Option<&Hold> {
        let (issuer, paid) = if leg.leg == trade::Leg::PayeeBond { (PAYER, PAYEE) } else { (PAYEE, PAYER) };
        let known = self.trade(issuer).dossier().issued(leg).map(|i| i.hash);
        let hash = known.or_else(|| self.trade(paid).dossier().paid(leg).map(|p| p.hash))?;
        self.holds.get(&(issuer, hash)).map(|(hold, ..)| hold)
    }

    /// No money is held any more, and nothing is owed.
    pub(crate) fn assert_over(&self) {
        let held: Vec<_> = self.holds.iter().filter(|(_, (hold, ..))| matches!(hold, Hold::Held(_))).collect();
        assert!(held.is_empty(), "still held: {held:?}");
        for who in 0..3 {
            assert_eq!(self.desks[who].pending(self.now), [], "{who} still owes something");
        }
        for who in 0..2 {
            assert!(self.trade(who).outcome().is_some(), "not over: {:?}", self.states());
        }
    }

    pub(crate) fn alarmed(&self, who: usize, notice: &Notice) -> bool {
        self.shown.iter().any(|(shown, n)| *shown == who && n == notice)
    }

    /// The logs give the same desks again.
    pub(crate) fn assert_replays(&self) {
        for who in 0..3 {
            let (desk, damaged) = Desk::replay(own_node(who), self.log[who].iter().cloned());
            assert_eq!(damaged, []);
            assert!(desk.trades().eq(self.desks[who].trades()), "{who} replays to something else");
        }
    }
}
