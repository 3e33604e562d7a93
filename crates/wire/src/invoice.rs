//! What a BOLT11 invoice says, read strictly.

use std::mem::Discriminant;

use bitcoin::hashes::Hash;
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescriptionRef, Bolt11SemanticError, ParseOrSemanticError, TaggedField,
};
use trade::InvoiceFacts;
use units::{Msat, PaymentHash, Unix};

/// Longest invoice that we read, in characters.
pub const INVOICE_MAX: usize = 4096;

/// Why an invoice tells us nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// Longer than [`INVOICE_MAX`].
    #[error("longer than {INVOICE_MAX} characters")]
    TooLong,
    /// Not a BOLT11 invoice, or one that lacks what BOLT#11 requires.
    #[error("not a BOLT11 invoice")]
    Unreadable,
    /// Signed by another node than the one it names.
    #[error("the signature is not the payee's")]
    BadSignature,
    /// Demands a feature that we do not know.
    #[error("demands an unknown feature")]
    UnknownFeature,
    /// A field that may stand once stands twice, so two wallets may read different things.
    #[error("a field is repeated")]
    RepeatedField,
    /// A number that no payment can have.
    #[error("amount, expiry or CLTV out of range")]
    OutOfRange,
}

impl InvoiceError {
    /// A stable name for the reason.
    pub fn code(self) -> &'static str {
        match self {
            InvoiceError::TooLong => "too-long",
            InvoiceError::Unreadable => "unreadable",
            InvoiceError::BadSignature => "bad-signature",
            InvoiceError::UnknownFeature => "unknown-feature",
            InvoiceError::RepeatedField => "repeated-field",
            InvoiceError::OutOfRange => "out-of-range",
        }
    }
}

/// What `pick` finds in the description of an invoice.
fn described<T>(
    text: &str,
    pick: impl FnOnce(Bolt11InvoiceDescriptionRef<'_>) -> Option<T>,
) -> Result<Option<T>, InvoiceError> {
    if text.len() > INVOICE_MAX {
        return Err(InvoiceError::TooLong);
    }
    let invoice: Bolt11Invoice = text.parse().map_err(|_| InvoiceError::Unreadable)?;
    Ok(pick(invoice.description()))
}

/// The description of an invoice, if it is given as text (BOLT#11 `d`).
pub fn description(text: &str) -> Result<Option<String>, InvoiceError> {
    described(text, |description| match description {
        Bolt11InvoiceDescriptionRef::Direct(text) => Some(text.as_inner().0.clone()),
        Bolt11InvoiceDescriptionRef::Hash(_) => None,
    })
}

/// What the description of an invoice hashes to, if it is given as a hash (BOLT#11 `h`).
pub fn description_hash(text: &str) -> Result<Option<[u8; 32]>, InvoiceError> {
    described(text, |description| match description {
        Bolt11InvoiceDescriptionRef::Hash(hash) => Some(hash.0.to_byte_array()),
        Bolt11InvoiceDescriptionRef::Direct(_) => None,
    })
}

/// Reads a BOLT11 invoice and checks its signature.
pub fn parse_invoice(text: &str) -> Result<InvoiceFacts, InvoiceError> {
    if text.len() > INVOICE_MAX {
        return Err(InvoiceError::TooLong);
    }
    let invoice: Bolt11Invoice = text.parse().map_err(|error| match error {
        ParseOrSemanticError::SemanticError(Bolt11SemanticError::InvalidSignature) => InvoiceError::BadSignature,
        ParseOrSemanticError::SemanticError(Bolt11SemanticError::InvalidFeatures) => InvoiceError::UnknownFeature,
        _ => InvoiceError::Unreadable,
    })?;
    let mut seen: Vec<Discriminant<TaggedField>> = Vec::new();
    for field in invoice.tagged_fields() {
        let repeatable = matches!(field, TaggedField::Fallback(_) | TaggedField::PrivateRoute(_));
        let kind = std::mem::discriminant(field);
        if !repeatable && seen.contains(&kind) {
            return Err(InvoiceError::RepeatedField);
        }
        seen.push(kind);
    }
    let amount = invoice.amount_milli_satoshis().map(Msat);
    if amount.is_some_and(|amount| Msat::ZERO.checked_add(amount).is_err()) {
        return Err(InvoiceError::OutOfRange);
    }
    let expires_at = invoice.expires_at().ok_or(InvoiceError::OutOfRange)?.as_secs();
    Ok(InvoiceFacts {
        network: invoice.network().to_string(),
        payee: invoice.get_payee_pub_key().to_string(),
        hash: PaymentHash(*AsRef::<[u8; 32]>::as_ref(invoice.payment_hash())),
        amount,
        min_final_cltv: u32::try_from(invoice.min_final_cltv_expiry_delta()).map_err(|_| InvoiceError::OutOfRange)?,
        expires_at: Unix(expires_at),
        features_known: !invoice.features().is_some_and(|features| features.requires_unknown_bits()),
    })
}
