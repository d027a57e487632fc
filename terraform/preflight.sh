#!/bin/bash
# usage: terraform/preflight.sh PROJECT [REGION]
# Checks, without changing anything, what an apply would fail on: the login, the project, billing, APIs, the rights of
# the deployer, organisation policies and existing resources of the project. A line that begins with "fix" contains
# the required action; with at least one such line the exit code is 1.
set -uo pipefail

project=${1:?usage: terraform/preflight.sh PROJECT [REGION]} region=${2:-us-central1}
fixes=0
ok() { printf 'ok    %s\n' "$1"; }
note() { printf 'note  %s\n' "$1"; }
fix() { printf 'fix   %s\n      -> %s\n' "$1" "$2"; fixes=$((fixes + 1)); }
stop() { fix "$@"; exit 1; }
# In a pipeline, a program that waits for input would never end.
cloud() { gcloud --quiet "$@" 2>/dev/null; }

command -v gcloud >/dev/null || stop 'gcloud is not installed' 'https://cloud.google.com/sdk/docs/install'
account=$(cloud auth list --filter=status:ACTIVE --format='value(account)')
[ -n "$account" ] || stop 'gcloud has no active login' 'gcloud auth login && gcloud auth application-default login'
token=$(cloud auth application-default print-access-token) ||
  stop 'Terraform has no credentials' 'gcloud auth application-default login'
ok "login: $account"
member=user:$account
[[ $account != *.gserviceaccount.com ]] || member=serviceAccount:$account

version=$(terraform version 2>/dev/null | sed -n '1s/^Terraform v//p')
if [ "$(printf '%s\n1.11.0\n' "$version" | sort -V | head -n 1)" = 1.11.0 ]; then ok "Terraform $version"
else
  fix "Terraform 1.11 or later is needed, found ${version:-none}" 'https://developer.hashicorp.com/terraform/install'
fi

number=$(cloud projects describe "$project" --format='value(projectNumber)')
[ -n "$number" ] || stop "the project $project is not there, or $account may not see it" \
  "gcloud projects create $project, or have its owner grant roles/viewer"
ok "project $project ($number)"

if [ "$(cloud billing projects describe "$project" --format='value(billingEnabled)')" = True ]; then ok 'billing'
else fix 'billing is not enabled' "gcloud billing projects link $project --billing-account=BILLING_ACCOUNT"; fi

# Terraform enables the others. These two it needs to plan: one to enable, one to read the number of the project.
enabled=$(cloud services list --enabled --project="$project" --format='value(config.name)')
for api in serviceusage cloudresourcemanager; do
  if grep -q "^$api.googleapis.com$" <<<"$enabled"; then ok "API $api"
  else fix "the API $api is not enabled" "gcloud services enable $api.googleapis.com --project=$project"; fi
done

# One permission of each role that an apply uses. roles/owner has them all.
rights="artifactregistry.repositories.create artifactregistry.admin
cloudfunctions.functions.create cloudfunctions.admin
cloudkms.keyRings.create cloudkms.admin
cloudscheduler.jobs.create cloudscheduler.admin
datastore.databases.create datastore.owner
firebaserules.rulesets.create firebaserules.admin
iam.roles.create iam.roleAdmin
iam.serviceAccounts.actAs iam.serviceAccountUser
iam.serviceAccounts.create iam.serviceAccountAdmin
logging.logMetrics.create logging.configWriter
monitoring.alertPolicies.create monitoring.admin
pubsub.topics.create pubsub.admin
resourcemanager.projects.setIamPolicy resourcemanager.projectIamAdmin
run.services.setIamPolicy run.admin
secretmanager.secrets.create secretmanager.admin
serviceusage.services.enable serviceusage.serviceUsageAdmin
storage.buckets.create storage.admin"
# Those of `domain` and `sandbox_image`, which make networks.
network_rights="compute.firewalls.create compute.securityAdmin
compute.globalForwardingRules.create compute.loadBalancerAdmin
compute.networks.create compute.networkAdmin
dns.managedZones.create dns.admin"
grant="gcloud projects add-iam-policy-binding $project --member=$member --role=ROLE"
projects=https://cloudresourcemanager.googleapis.com/v1/projects
# Which of these permissions the deployer has. The token is passed on standard input: a command line can be read by
# other processes.
test_permissions() {
  printf 'header = "Authorization: Bearer %s"\n' "$token" | curl -fsS --config - --max-time 30 \
    -H 'Content-Type: application/json' -d "{\"permissions\":[$2]}" "$1:testIamPermissions" 2>/dev/null
}
permissions=$(cut -d' ' -f1 <<<"$rights"$'\n'"$network_rights" | sed 's/.*/"&"/' | paste -sd,)
if granted=$(test_permissions "$projects/$project" "$permissions"); then
  lacking() {
    while read -r permission role; do
      grep -qF "\"$permission\"" <<<"$granted" || printf ' roles/%s' "$role"
    done <<<"$1"
  }
  missing=$(lacking "$rights")
  if [ -z "$missing" ]; then ok 'rights of the deployer'
  else fix "$account lacks rights of:$missing" "for each: $grant"; fi
  missing=$(lacking "$network_rights")
  [ -z "$missing" ] || note "domain and sandbox_image also need rights of:$missing ($grant)"
else
  fix 'the rights of the deployer could not be read' \
    'see the API cloudresourcemanager above; else gcloud auth application-default login, and run this again'
fi

# A budget belongs to the billing account, where the roles of the project do not count.
billing=$(cloud billing projects describe "$project" --format='value(billingAccountName)')
if [ -n "$billing" ] && ! test_permissions "https://cloudbilling.googleapis.com/v1/$billing" \
  '"billing.budgets.create"' | grep -qF '"billing.budgets.create"'; then
  note "budget also needs roles/billing.costsManager in the billing account: gcloud billing accounts \
add-iam-policy-binding ${billing#*/} --member=$member --role=roles/billing.costsManager"
fi

policy() { cloud org-policies describe "$1" --effective --project="$project" --format=json; }
restricts() { grep -Eq '"(allowedValues|deniedValues)"|"denyAll": true|"enforce": true' <<<"$(policy "$1")"; }
allows() {
  local found
  found=$(policy "$1")
  ! grep -q '"allowedValues"' <<<"$found" || grep -Eq "\"(is:)?$2\"" <<<"$found"
}
if ! policy iam.allowedPolicyMemberDomains >/dev/null; then
  note 'organisation policies could not be read; a project without an organisation has none'
  note 'if an apply is refused, look at iam.allowedPolicyMemberDomains and run.managed.requireInvokerIam'
else
  strangers=0 unchecked=0
  ! restricts iam.allowedPolicyMemberDomains && ! restricts iam.managed.allowedPolicyMembers || strangers=1
  ! restricts run.managed.requireInvokerIam || unchecked=1
  case $strangers$unchecked in
    00) ok 'organisation: endpoints may be public' ;;
    10) fix 'the organisation refuses allUsers (domain-restricted sharing)' \
      'set invoker_check = "disabled" in the .tfvars file; when it is there, this line can be ignored' ;;
    01) ok 'organisation: endpoints may be public through allUsers; leave invoker_check = "iam"' ;;
    11) fix 'the organisation refuses allUsers and services without an invoker check: no endpoint can be public' \
      'have this project excepted from run.managed.requireInvokerIam, and set invoker_check = "disabled"' ;;
  esac
  for setting in run.allowedIngress:all cloudfunctions.allowedIngressSettings:ALLOW_ALL; do
    allows "${setting%:*}" "${setting#*:}" || fix "the organisation refuses public ingress (${setting%:*})" \
      'set domain: behind the load balancer the services are internal'
  done
  allows gcp.resourceLocations "in:$region-locations" || allows gcp.resourceLocations "$region" ||
    note "gcp.resourceLocations names places: check that $region is among them, and global for secrets"
fi

case $(cloud firestore databases describe --database='(default)' --project="$project" --format='value(type)') in
  '') ok 'no database yet' ;;
  FIRESTORE_NATIVE)
    note 'the database (default) is there. If Terraform did not make it:'
    note "  terraform import google_firestore_database.gateway 'projects/$project/databases/(default)'"
    ;;
  *) fix 'the database (default) is in Datastore mode' 'set database to another id, such as gateway' ;;
esac

# Only the console on Firebase Hosting needs it.
if printf 'header = "Authorization: Bearer %s"\n' "$token" | curl -sS --config - --max-time 30 \
  -H "X-Goog-User-Project: $project" "https://firebase.googleapis.com/v1beta1/projects/$project" 2>/dev/null |
  grep -q '"projectId"'; then ok 'Firebase'
else note "no Firebase, which only the console on Hosting needs: firebase projects:addfirebase $project"; fi

[ "$fixes" -eq 0 ] && echo 'ready for terraform apply'
exit $((fixes > 0))
