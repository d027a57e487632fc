# The key that wraps the data keys of stored logins (auth.login) and of the configurations of connected MCP servers
# (mcp.connect). Losing it loses these, and nothing else.

# A key ring can never be deleted: a name of its own lets a gateway that was destroyed be made again.
resource "random_id" "key_ring" {
  byte_length = 4
  keepers     = { project = var.project_id }
}

resource "google_kms_key_ring" "gateway" {
  name       = "gateway-${random_id.key_ring.hex}"
  location   = var.region
  depends_on = [time_sleep.apis]
}

resource "google_kms_crypto_key" "credentials" {
  name     = "credentials"
  key_ring = google_kms_key_ring.gateway.id
  purpose  = "ENCRYPT_DECRYPT"
  # Old versions still decrypt what they encrypted.
  rotation_period = "7776000s"
}

resource "google_kms_crypto_key_iam_member" "credentials" {
  for_each      = toset([for name, uses in local.uses : name if contains(uses, "kms")])
  crypto_key_id = google_kms_crypto_key.credentials.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = local.members[each.key]
}
