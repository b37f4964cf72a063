//! The field `auth`: base64 of `user:password`, decoded as the kubelet decodes it
//! (k8s.io/kubernetes, pkg/credentialprovider/config.go).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::SecretBytes;

/// User name and password; only the first colon separates. Go's decoder skips line breaks and does
/// not mind what is left in the last bits.
pub(crate) fn decode(auth: &str) -> Option<(SecretBytes, SecretBytes)> {
    let padded = auth.trim().ends_with('=');
    let mode = if padded { DecodePaddingMode::RequireCanonical } else { DecodePaddingMode::RequireNone };
    let lenient =
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(mode);
    let unwrapped = Zeroizing::new(auth.replace(['\r', '\n'], ""));
    let mut username = GeneralPurpose::new(&STANDARD, lenient).decode(unwrapped.as_bytes()).ok()?;
    let colon = username.iter().position(|byte| *byte == b':')?;
    let password = username.split_off(colon + 1);
    username.truncate(colon);
    Some((username.into(), password.into()))
}
