// Patches of one pair of trees, made by the real programs git, GNU diff, Subversion and Mercurial, in all their modes.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Corpus {
  /** The tree that every patch applies to. */
  readonly base: string;
  readonly patches: ReadonlyMap<string, string>;
}

/** Makes the corpus below an empty directory; takes two seconds. Names of patches start with the tool. */
export function makeCorpus(directory: string): Corpus {
  const out = join(directory, 'patches');
  mkdirSync(out);
  for (const script of [TREES, GIT, DIFF, SUBVERSION, MERCURIAL]) run(directory, script);
  const names = readdirSync(out).sort();
  // JSON carries UTF-8 only; a replaced byte does not affect the comparison.
  return {
    base: join(directory, 'old'),
    patches: new Map(names.map((name) => [name, readFileSync(join(out, name), 'utf8')])),
  };
}

export function run(cwd: string, script: string): string {
  const env = {
    ...{ GIT_AUTHOR_NAME: 'a', GIT_AUTHOR_EMAIL: 'a@example.com' },
    ...{ GIT_COMMITTER_NAME: 'a', GIT_COMMITTER_EMAIL: 'a@example.com' },
    ...{ GIT_CONFIG_NOSYSTEM: '1', GIT_CONFIG_GLOBAL: '/dev/null', GIT_CEILING_DIRECTORIES: cwd },
    ...{ HGRCPATH: '', HGUSER: 'a', HGENCODING: 'UTF-8' },
    // Subversion otherwise waits for the clock after each change.
    SVN_I_LOVE_CORRUPTED_WORKING_COPIES_SO_DISABLE_SLEEP_FOR_TIMESTAMPS: 'yes',
    ...{ PATH: process.env.PATH ?? '', HOME: cwd, LC_ALL: 'C.UTF-8', TZ: 'UTC' },
  };
  const done = spawnSync('bash', ['-euc', script], {
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 16 << 20,
    timeout: 60_000,
  });
  if (done.status !== 0) throw new Error(`${script}\nended with ${done.status}: ${done.stderr}`);
  return done.stdout;
}

/** `old` and `new`: all kinds of change, with names that must be quoted, line ends of Windows and none at the end. */
const TREES = String.raw`
mkdir -p old/src old/a old/b/c "old/sp ace"; cd old
seq 1 60 > plain.txt; echo 100 > limits.txt; echo 100 > src/limits.txt; seq 1 9 > a/x.txt; seq 1 9 > b/c/y.txt
printf 'int main(void)\n{\n\tint a = 1;\n\n\tint b = 2;\n\treturn a + b;\n}\n\nint f(void)\n{\n\treturn 1;\n}\n' > src/main.c
seq 1 9 > "sp ace/ü name.txt"; seq 1 9 > 'quo"te.txt'; seq 1 9 > 'back\slash.txt'; seq 1 9 > -dash.txt
printf 'one\r\ntwo\r\nthree\r\n' > crlf.txt; printf 'one\ntwo' > no-end.txt; printf 'one\ntwo\n' > end.txt; : > empty.txt
seq 1 5 > gone.txt; echo tool > mode.sh; seq 100 140 > renamed.txt; seq 200 240 > copied.txt; seq 1 9 > moved.txt
printf 'a b\n\nc  d\n' > white.txt; printf -- '--- a/x\n+++ b/x\n@@ -1 +1 @@\n-- \n' > like-a-patch.txt; seq 1 40 > rewritten.txt
cd ..; cp -a old new; cd new
sed -i 's/^5$/five/; s/^30$/thirty/; 55d' plain.txt; echo 200 > src/limits.txt; sed -i '3d' a/x.txt; sed -i '7a new' b/c/y.txt
sed -i 's/a = 1/a = 3/; s/return 1/return 2/' src/main.c; sed -i '4s/$/!/' "sp ace/ü name.txt" 'quo"te.txt' 'back\slash.txt' -- -dash.txt
printf 'one\r\n2\r\nthree\r\n' > crlf.txt; printf 'one\ntwo\n' > no-end.txt; printf 'one\n2' > end.txt; echo full > empty.txt
rm gone.txt; chmod +x mode.sh; sed -i 's/^120$/x/' renamed.txt; mv renamed.txt src/renamed.txt; cp copied.txt copy.txt
sed -i '1d' copied.txt; mv moved.txt moved-away.txt; printf 'a  b\n\n\nc d\n' > white.txt
printf -- '--- a/y\n+++ b/x\n@@ -1 +1 @@\n-- \n++ c\n' > like-a-patch.txt; seq 300 350 > rewritten.txt
mkdir -p deep/er; seq 1 3 > deep/er/new.txt; seq 1 3 > "new ü.txt"
`;

/**
 * Each line: the name of a patch, then the command for it. Empty and binary files are in patches of their own: not all
 * tools support them.
 */
const GIT = String.raw`
cp -a old git; cd git; git init -q .; git add -A; git commit -qm old; rm -rf -- * ; cp -a ../new/. .; git add -A
p() { local name=$1; shift; git "$@" > ../patches/git-$name; }
d() { local name=$1; shift; p "$name" diff --cached "$@"; }
d default; d no-renames --no-renames; d copies -C; d copies-harder -C --find-copies-harder; d rewrites -B; d rewrites-moves -B -M -C
d U0 -U0; d U1 -U1; d U10 -U10; d function -W; d between --inter-hunk-context=10; d full-index --full-index; d abbrev --abbrev=4
d patience --patience; d histogram --histogram; d minimal --minimal; d anchored --anchored=30; d stat --patch-with-stat
d raw --patch-with-raw; d summary -p --summary --stat --dirstat; d text --text; d binary --binary; d no-index-line --no-indent-heuristic
d white-w -w; d white-b -b; d white-eol --ignore-space-at-eol; d white-cr --ignore-cr-at-eol; d white-lines --ignore-blank-lines
d reversed -R; d irreversible -D; d words --word-diff; d words-porcelain --word-diff=porcelain; d colour --color; d line-prefix --line-prefix='| '
d indicators --output-indicator-new='>' ; d relative --relative=src; d only src/main.c; d nul -z; d filter-modified --diff-filter=M
d no-prefix --no-prefix; d prefixes --src-prefix=old/ --dst-prefix=new/; d deep-prefixes --src-prefix=x/y/ --dst-prefix=x/z/
d same-prefix --src-prefix=p/ --dst-prefix=p/; p config-no-prefix -c diff.noprefix=true diff --cached
p config-mnemonic -c diff.mnemonicPrefix=true diff --cached; p config-raw-names -c core.quotePath=false diff --cached
p config-no-prefix-raw -c diff.noprefix=true -c core.quotePath=false diff --cached -U0
: > empty-new.txt; rm empty.txt; printf 'a\0b\1' > bin.dat; git add -A; d empty-files -- empty-new.txt empty.txt; d binary-data --binary
d binary-file -- bin.dat src; d binary-after-text -- src bin.dat
git commit -qm 'A subject' -m 'Only in debug builds: no.
diff -u a/x b/x is meant, 3 files
Index: none'
p format-patch format-patch --stdout -1; p format-patch-inline format-patch --stdout --inline --binary -1
p format-patch-plain format-patch --stdout -p --binary --signature='text' -1; p show show --binary; p log log -p -1 --binary --stat
p mail show --binary --format=email; p show-raw show --binary --format=raw
printf 'a\0c\1' > bin.dat; git add -A; git commit -qm more; p two-commits format-patch --stdout --binary -2; p log-two log -p --binary --reverse -2
git checkout -qb side HEAD~1; sed -i 's/^5$/5 side/; s/^five$/5 side/' plain.txt; git commit -qam side; git checkout -q -; sed -i 's/^five$/5 main/' plain.txt
echo other > limits.txt; git commit -qam main; git merge -q side > /dev/null || true; p unmerged diff; sed -i '/^[<=>]\{7\}/d' plain.txt; git add -A
git commit -qm merged; p merge-cc show --cc; p merge-c show -c; p merge-m show -m; p merge-first log -p -1 -m --first-parent
cd ..; git diff --no-index old new > patches/git-no-index || true; git diff --no-index --no-prefix old new > patches/git-no-index-no-prefix || true
sed 's/$/\r/' patches/git-default > patches/git-of-windows; (echo 'Hello,'; echo; cat patches/git-default; echo; echo Regards) > patches/git-in-mail
printf '\357\273\277' | cat - patches/git-default > patches/git-bom; sed '$d' patches/git-default > patches/git-cut; sed 's/^/> /' patches/git-default > patches/git-quoted
head -c -1 patches/git-default > patches/git-no-end; sed 's/[ \t]*$//' patches/git-default > patches/git-trimmed
cat patches/git-no-prefix patches/git-default > patches/git-twice
`;

const DIFF = String.raw`
p() { local name=$1; shift; "$@" > patches/diff-$name || [ $? -le 2 ]; }
d() { local name=$1; shift; p "$name" diff "$@" old new; }
d r -r; d ru -ru; d ruN -ruN; d rupN -rupN; d ruN-U0 -rN -U0; d ruN-U10 -rN -U10; d ruN-minimal -ruNd; d ruaN -ruaN; d no-dereference -ruN --no-dereference
d ruP -ru --unidirectional-new-file; d white-w -ruNw; d white-b -ruNb; d white-E -ruNE; d white-B -ruNB; d cr -ruN --strip-trailing-cr
d context -rcN; d context-C0 -rN -C0; d context-only -rc; d ed -reN; d forward-ed -rfN; d rcs -rnN; d normal -rN; d side -ryN; d brief -rqN
d report -rusN; d tabs -ruNt; d initial-tab -ruNT; d color -ruN --color=always; d suppress -ruN --suppress-blank-empty
TZ=America/New_York d west -ruN; TZ=Asia/Kolkata d east -ruN
p one-file diff -u old/plain.txt new/plain.txt; p labels diff -u --label a/plain.txt --label b/plain.txt old/plain.txt new/plain.txt
p labels-whole diff -u --label src/limits.txt --label src/limits.txt old/src/limits.txt new/src/limits.txt
p one-context diff -c old/plain.txt new/plain.txt; p one-normal diff old/plain.txt new/plain.txt; p one-ed diff -e old/plain.txt new/plain.txt
(cd old; cp plain.txt plain.txt.orig; cp ../new/plain.txt plain.txt; diff -u plain.txt.orig plain.txt > ../patches/diff-orig; mv plain.txt.orig plain.txt) || true
(cd old; cp src/main.c src/main.c~; cp ../new/src/main.c src/main.c; diff -u src/main.c~ src/main.c > ../patches/diff-tilde; mv src/main.c~ src/main.c) || true
cp -a new new-empty; : > new-empty/fresh-empty.txt; diff -ruN old new-empty > patches/diff-empty-file || true
cp -a new new-binary; printf 'a\0b' > new-binary/bin.dat; diff -ruN old new-binary > patches/diff-binary-file || true
cp -a new new-link; ln -s plain.txt new-link/link; diff -ruN --no-dereference old new-link > patches/diff-link || true
sed 's/\t\([0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] .*\)$/ \1/' patches/diff-ruN > patches/diff-space-time
sed 's/^\(---\|+++\) \([^\t]*\)\t.*/\1 \2/' patches/diff-ru > patches/diff-no-time
`;

const SUBVERSION = String.raw`
svnadmin create svn-store; mkdir svn; cp -a old/. svn/; svn import -q -m 'The old tree' svn "file://$PWD/svn-store"; rm -rf svn
svn checkout -q "file://$PWD/svn-store" svn; cd svn
svn mv -q renamed.txt src/renamed.txt; svn cp -q copied.txt copy.txt; svn mv -q moved.txt moved-away.txt; svn rm -q gone.txt
rm -f mode.sh; cp -a ../new/. .; chmod -x mode.sh; svn add -q --force .
p() { local name=$1; shift; svn diff "$@" > ../patches/svn-$name; }
p plain; p git --git; p U0 -x -U0; p U9 -x -U9; p p -x -p; p w -x -w; p b -x -b; p eol -x --ignore-eol-style; p no-deleted --no-diff-deleted
p no-added --no-diff-added; p copies-as-adds --show-copies-as-adds; p compatible --patch-compatible; p one src/limits.txt; p summarize --summarize
p internal --internal-diff; p gnu --diff-cmd diff -x -u; p gnu-context --diff-cmd diff -x -c
svn propset -q svn:executable on mode.sh; svn propset -q note text plain.txt; p properties; p properties-git --git; p properties-ignored --ignore-properties
p properties-only --properties-only; svn revert -q mode.sh plain.txt; cp ../new/plain.txt .
: > fresh-empty.txt; svn add -q fresh-empty.txt; p empty-file; p empty-file-git --git; svn rm -q --force fresh-empty.txt
printf 'a\0b' > bin.dat; svn add -q bin.dat; p binary-file; p binary-file-git --git; svn rm -q --force bin.dat
`;

/** One process for all of it: Mercurial's start takes most of the time of a small command. */
const MERCURIAL = String.raw`
cat > hg.py <<'END'
import shlex, sys
from mercurial import dispatch
dispatch.initstdio()
for line in sys.stdin:
    words = shlex.split(line)
    if words[0] == 'sh':
        import subprocess
        subprocess.run(['bash', '-euc', words[1]], check=True)
        continue
    with open('../patches/hg-' + words[0] if words[0] != '-' else '/dev/null', 'wb') as out:
        if (dispatch.dispatch(dispatch.request([w.encode() for w in words[1:]], fout=out)) or 0) > 1: sys.exit(line)
END
mkdir hg; cp -a old/. hg/; cd hg
"$(head -1 "$(command -v hg)" | sed 's/^#! *//')" ../hg.py <<'END'
- init -q .
- add -q
- commit -qm old
- mv -q renamed.txt src/renamed.txt
- cp -q copied.txt copy.txt
- mv -q moved.txt moved-away.txt
- rm -q gone.txt
sh 'cp -a ../new/. .; chmod -x mode.sh'
- add -q
plain diff
git diff --git
U0 diff -U0
U10 diff -U10
git-U0 diff --git -U0
w diff -w
b diff -b
B diff -B
Z diff -Z
p diff -p
text diff -a
no-prefix diff --noprefix
git-no-prefix diff --git --noprefix
no-dates diff --nodates
stat diff --stat
reversed diff --reverse
git-stat diff --git --stat
sub-root diff --root src
words --config diff.word-diff=true --color=always diff
sh 'chmod +x mode.sh'
mode diff --git mode.sh src
mode-lost diff mode.sh src
sh ': > fresh-empty.txt'
- add -q fresh-empty.txt
empty-file diff
empty-file-git diff --git
- forget -q fresh-empty.txt
sh "rm fresh-empty.txt; printf 'a\\0b' > bin.dat"
- add -q bin.dat
binary-file diff
binary-file-git diff --git
- commit -qm 'new, as diff -u a/x b/x is meant'
export export
export-git export --git
change diff -c tip --git
log log -p -r tip
log-git log -p -r tip --git
END
`;
