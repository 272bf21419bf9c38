"""When two entries are one entity: the rule behind splits, duplicates and the leakage report.

``exact``: molecules by canonical isomeric SMILES, whatever their atom order, Kekulé form, explicit hydrogens or atom
maps; proteins by their residues, whatever the case, blanks, alignment gaps or a final stop; cell lines by name.
``parent``: molecules without salts, counter-ions, solvents, isotope labels and charges that a proton can settle
(RDKit's MolStandardize); cell lines by the letters and digits of their name in any case (MCF-7 is MCF7).
``connectivity``: parents whose atoms are connected alike: stereochemistry left out, tautomers one, keto and enol too
(InChI with mobile hydrogens under its KET and 15T options: Heller et al., J. Cheminform. 7 (2015) 23).
Each rule merges all that the one before it merges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.Chem.Scaffolds.MurckoScaffold import GetScaffoldForMol
from rdkit.rdBase import BlockLogs

from esmerge.core.errors import ConfigError, InputError
from esmerge.data.molecules import canonical_smiles, scaffold

RULES = ("exact", "parent", "connectivity")
EXACT, PARENT, STRICTEST = RULES
Identity = Callable[[str], str]  # a value -> what equal entities share
MOLECULE, PROTEIN, LINE = "molecule", "protein", "line"
TAUTOMERS = "-KET -15T -SNon"  # InChI's options: mobile hydrogens of carbon too, no stereochemistry
MOBILE = "(H"  # in an InChI: a group of atoms that shares hydrogens
HIDDEN = tuple(map(Chem.MolFromSmarts, ("[OX2H][CX3]=[CX3]", "[CX4;!H0][NX2]=[OX1]")))  # from InChI: enols, nitroso
SULFOXIDE = Chem.MolFromSmarts("[#16X3]=[OX1]")  # which may be written with charges as well


def check_rule(rule: str | None) -> None:
    """Raise ``ConfigError`` unless ``rule`` is one of ``RULES`` or None."""
    if rule not in (None, *RULES):
        raise ConfigError(
            f"benchmark.identity={rule!r} must be one of {', '.join(RULES)}, or null for {STRICTEST} between the "
            f"sides of cold and scaffold splits and {EXACT} elsewhere"
        )


def identity(kind: str, rule: str) -> Identity:
    """What equal entities share under a rule.

    Args:
        kind: ``molecule``, ``protein`` (valid entries), ``line`` (a cell line's name), or anything else, which is
            compared as it is.
        rule: one of ``RULES``.
    """
    by_rule: Mapping[str, Mapping[str, Identity]] = {
        MOLECULE: {PARENT: parent, STRICTEST: connectivity},
        LINE: {PARENT: stripped_name, STRICTEST: stripped_name},
    }
    return by_rule.get(kind, {}).get(rule, str)  # tables hold the exact form already


def scaffold_identity(rule: str) -> Identity:
    """Molecule -> its Bemis-Murcko scaffold, equal for all molecules that the rule merges; see ``framework``."""
    by_rule: Mapping[str, Identity] = {EXACT: scaffold, PARENT: lambda smiles: scaffold(parent(smiles))}
    return by_rule.get(rule, framework)


def text_identity(kind: str) -> Identity:
    """The strictest identity of entries that may be invalid: an invalid one is compared as it is."""
    strict = identity(kind, STRICTEST)

    def key(value: str) -> str:
        try:
            return strict(value)
        except InputError:
            return value

    return key


@lru_cache(maxsize=200_000)
def parent(smiles: str) -> str:
    """Canonical isomeric SMILES of the parent; raises ``InputError`` for what is not a molecule."""
    return Chem.MolToSmiles(_parent(smiles))


@lru_cache(maxsize=200_000)
def connectivity(smiles: str) -> str:
    """InChI of the parent without stereochemistry, with mobile hydrogens; what has none is written as SMILES, which for
    most molecules is the canonical one, so that their side of a split is the same under every rule.

    Raises:
        InputError: not a molecule.
    """
    molecule = _parent(smiles)
    Chem.RemoveStereochemistry(molecule)
    with BlockLogs():
        if any(map(molecule.HasSubstructMatch, HIDDEN)):
            molecule = _canonical_tautomer(molecule)
        inchi = str(Chem.MolToInchi(molecule, options=TAUTOMERS))
        readable = None if MOBILE in inchi else Chem.MolFromInchi(inchi) if inchi else molecule
        return inchi if readable is None else str(Chem.MolToSmiles(readable))


def stripped_name(name: str) -> str:
    """A cell line's name without case and punctuation, as Cellosaurus and DepMap compare them."""
    return "".join(letter for letter in name.upper() if letter.isalnum()) or name


def _parent(smiles: str) -> Chem.Mol:
    with BlockLogs():
        molecule = Chem.MolFromSmiles(canonical_smiles(smiles))
        if _is_parent(molecule):  # of most drug-like molecules it is true, and standardising takes milliseconds each
            return molecule
        standard = rdMolStandardize.IsotopeParent(rdMolStandardize.ChargeParent(molecule), skipStandardize=True)
        return Chem.MolFromSmiles(Chem.MolToSmiles(standard)) or standard  # isotopes may have made centres


def _is_parent(molecule: Chem.Mol) -> bool:
    """One fragment without labels, charges (but for nitro groups) and groups that are written in several ways."""
    return (
        len(Chem.GetMolFrags(molecule)) == 1
        and not any(atom.GetIsotope() or _may_be_settled(atom) for atom in molecule.GetAtoms())
        and not molecule.HasSubstructMatch(SULFOXIDE)
    )


def _may_be_settled(atom: Chem.Atom) -> bool:
    charge = atom.GetFormalCharge()
    return bool(charge) and not (
        {atom.GetSymbol()} <= {"N", "O"}
        and any(
            neighbour.GetFormalCharge() == -charge and {atom.GetSymbol(), neighbour.GetSymbol()} == {"N", "O"}
            for neighbour in atom.GetNeighbors()
        )
    )


def _canonical_tautomer(molecule: Chem.Mol) -> Chem.Mol:
    return rdMolStandardize.TautomerEnumerator().Canonicalize(molecule)


@lru_cache(maxsize=200_000)
def framework(smiles: str) -> str:
    """Rings and what links them, by element and bond alone: SMILES without bond orders, charges and hydrogens.

    Tautomers share their frameworks, and so do molecules with one Bemis-Murcko scaffold (Bemis & Murcko, J. Med. Chem.
    39 (1996) 2887), whose double-bonded neighbours are left out. A molecule without rings is its own framework.

    Raises:
        InputError: not a molecule.
    """
    molecule = _parent(smiles)
    if not molecule.GetRingInfo().NumRings():
        return connectivity(smiles)
    skeleton = Chem.RWMol(GetScaffoldForMol(molecule))
    for bond in skeleton.GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
        bond.SetIsAromatic(False)
        bond.SetStereo(Chem.BondStereo.STEREONONE)
    for atom in skeleton.GetAtoms():
        atom.SetIsAromatic(False)
        atom.SetFormalCharge(0)
        atom.SetNumRadicalElectrons(0)
        atom.SetNumExplicitHs(0)
        atom.SetNoImplicit(True)
        atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    for index in sorted(_neighbours_of_the_skeleton(skeleton), reverse=True):
        skeleton.RemoveAtom(index)
    skeleton.UpdatePropertyCache(strict=False)
    return str(Chem.MolToSmiles(skeleton))


def _neighbours_of_the_skeleton(skeleton: Chem.Mol) -> list[int]:
    """Atoms with one bond: what a Bemis-Murcko scaffold keeps beside its rings and linkers."""
    return [atom.GetIdx() for atom in skeleton.GetAtoms() if atom.GetDegree() == 1]
