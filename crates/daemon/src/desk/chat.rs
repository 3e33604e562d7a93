//! Chat about a trade: sealed for one reader, kept in the store, delivered like everything else.

use trade::{Dossier, MessageId, PartyKey, Role, TradeId};
use wire::domp::sealed::{CHAT_MAX, Chat};

use super::{Change, DeskError, Loop};
use crate::api::types::{ChatRequest, ChatTo, ChatView};
use crate::{clock, post, view};

/// Most words of chat that one trade keeps; who says more is not heard.
const CHAT_PER_TRADE_MAX: usize = 1000;

impl Loop {
    /// Seals what our user says, keeps it, and sends it.
    pub(super) fn say(&mut self, trade: TradeId, words: &ChatRequest) -> Result<ChatView, DeskError> {
        let known = self.desk.trade(trade).ok_or_else(|| DeskError::NotFound(format!("no trade {trade}")))?;
        let dossier = known.dossier();
        if words.text.trim().is_empty() || words.text.chars().count() > CHAT_MAX {
            return Err(DeskError::Usage(format!("say something, in up to {CHAT_MAX} characters")));
        }
        let to = match words.to {
            ChatTo::Counterparty => counterparty(dossier),
            ChatTo::Arbiter => dossier
                .opening
                .arbiter
                .filter(|arbiter| *arbiter != dossier.me())
                .ok_or_else(|| DeskError::Usage("this trade has no arbiter but you, or none at all".into()))?,
        };
        let about = subject(dossier, words.to).ok_or_else(|| {
            DeskError::Usage("nothing has been said in this trade yet: chat begins when the bid is out".into())
        })?;
        let chat = Chat { author: dossier.me(), at: clock::unix(), about, text: words.text.clone() };
        let (id, wrap) = post::pack_chat(&chat, to, &self.parts.keyring)?;
        self.keep_chat(trade, id, &chat)?;
        self.couriers.post(&format!("chat/{id}"), id, &[wrap])?;
        self.heard(trade, &chat)
    }

    /// Keeps what somebody said about a trade that it is a party of. True when that is done with.
    pub(super) fn hear_chat(&mut self, id: MessageId, chat: &Chat) -> Result<bool, DeskError> {
        let Some(trade) = self.desk.trade_of_message(chat.about) else { return Ok(false) };
        if trade.dossier().role_of(chat.author).is_none() {
            tracing::debug!(author = %chat.author, "chat by a stranger");
            return Ok(true);
        }
        let trade = trade.id();
        self.keep_chat(trade, id, chat)?;
        Ok(true)
    }

    fn keep_chat(&self, trade: TradeId, id: MessageId, chat: &Chat) -> Result<(), DeskError> {
        let kept = tokio::task::block_in_place(|| self.parts.store.chat_put(trade, id, chat, CHAT_PER_TRADE_MAX))?;
        self.tell(Change::Chat(trade));
        if !kept {
            tracing::warn!(%trade, "this trade has been talked about enough; no more is kept");
        }
        Ok(())
    }

    /// What was said about a trade, oldest first.
    pub(super) fn chat(&self, trade: TradeId) -> Result<Vec<ChatView>, DeskError> {
        let chats = tokio::task::block_in_place(|| self.parts.store.chats(trade))?;
        chats.iter().map(|chat| self.heard(trade, chat)).collect()
    }

    fn heard(&self, trade: TradeId, chat: &Chat) -> Result<ChatView, DeskError> {
        let known = self.desk.trade(trade).ok_or_else(|| DeskError::NotFound(format!("no trade {trade}")))?;
        let role = known.dossier().role_of(chat.author);
        Ok(ChatView {
            at: chat.at,
            from: role.map(view::role).unwrap_or_default().to_owned(),
            ours: chat.author == known.dossier().me(),
            text: chat.text.clone(),
        })
    }
}

/// The other side: the payee for a payer, else the payer.
fn counterparty(dossier: &Dossier) -> PartyKey {
    match dossier.opening.role {
        Role::Payer => dossier.opening.payee,
        Role::Payee | Role::Arbiter => dossier.opening.payer,
    }
}

/// A message of the trade that every party of it knows by now: the latest that was said to both sides, or the first of all.
fn subject(dossier: &Dossier, to: ChatTo) -> Option<MessageId> {
    use trade::Step;
    let shared = |step: Step| matches!(step, Step::Appointment(0) | Step::Bid(0));
    // An arbiter is shown no bid.
    let arbiters = dossier.said.iter().find(|said| to == ChatTo::Arbiter && said.step == Step::Appointment(0));
    arbiters.or(dossier.said.iter().find(|said| shared(said.step))).or(dossier.said.first()).map(|said| said.id)
}
