# The KMS key that encrypts the data keys of stored logins (auth.login) and of the configurations of connected MCP
# servers (mcp.connect). If it is lost, only these are lost.

# A key ring can never be deleted. Its name contains a random part, so that a gateway can be deployed again after a
# destroy.
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
  # Old key versions still decrypt what they have encrypted.
  rotation_period = "7776000s"
}

resource "google_kms_crypto_key_iam_member" "credentials" {
  for_each      = toset([for name, uses in local.uses : name if contains(uses, "kms")])
  crypto_key_id = google_kms_crypto_key.credentials.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = local.members[each.key]
}
