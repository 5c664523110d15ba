"""Which symbols the simulated market knows, since when and until when.

Here: tickers and sectors, and the dates at which simulated companies list, split, leave the index or are
delisted.
Not here: prices (market.py) and how a venue writes any of this.

Tickers are real and well known, so that a symbol typed by a user works; who is a member when, and everything else
about a company, is invented. They are written with a dot (`BRK.B`) as Wikipedia does; yahoo.py makes Yahoo's spelling
(`BRK-B`).

Beyond the index members: the funds SPY and QQQ, ATVI (delisted, its bars stay) and SIVB (delisted, then
forgotten).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

FIRST_SESSION = date(2015, 1, 2)

SECTORS = {
    "Communication Services": """
        APP CHTR CMCSA DIS FOX FOXA GOOG GOOGL IPG LYV META MTCH NFLX NWS NWSA OMC PARA T TKO TMUS TTD TTWO
        VZ WBD
    """,
    "Consumer Discretionary": """
        ABNB AMZN APTV AZO BBY BKNG CCL CMG CZR DASH DECK DHI DPZ DRI EBAY ETSY EXPE F GM GPC GRMN HAS HD
        HLT LEN LKQ LOW LULU LVS MAR MCD MGM MHK NCLH NKE NVR ORLY PHM RCL RL ROST SBUX TJX TPR TSCO TSLA
        ULTA WSM WYNN YUM
    """,
    "Consumer Staples": """
        ADM BF.B BG CHD CL CLX COST DG DLTR EL GIS HRL HSY K KDP KHC KMB KO KR KVUE MDLZ MKC MNST MO PEP PG
        PM SJM STZ SYY TAP TGT TSN WBA WMT
    """,
    "Energy": """
        APA BKR COP CVX DVN EOG EQT EXE FANG HAL KMI MPC OKE OXY PSX SLB TPL TRGP VLO WMB XOM
    """,
    "Financials": """
        ACGL AFL AIG AIZ AJG ALL AMP AON APO AXP BAC BEN BK BLK BRK.B BRO BX C CB CBOE CFG CINF CME COF COIN
        CPAY DFS EG ERIE FDS FI FIS FITB GL GPN GS HBAN HIG HOOD IBKR ICE IVZ JKHY JPM KEY KKR L MA MCO MET
        MKTX MMC MS MSCI MTB NDAQ NTRS PFG PGR PNC PRU PYPL RF RJF SCHW SPGI STT SYF TFC TROW TRV USB V WFC
        WRB WTW XYZ
    """,
    "Health Care": """
        A ABBV ABT ALGN AMGN BAX BDX BIIB BIO BMY BSX CAH CI CNC COO COR CRL CVS DGX DHR DVA DXCM ELV EW
        GEHC GILD HCA HSIC HUM IDXX INCY IQV ISRG JNJ LH LLY MCK MDT MRK MRNA MTD PFE PODD REGN RMD RVTY
        SOLV STE SYK TECH TMO UHS UNH VRTX VTRS WAT WST ZBH ZTS
    """,
    "Industrials": """
        AAL ADP ALLE AME AOS AXON BA BLDR BR CARR CAT CHRW CMI CPRT CSX CTAS DAL DD DE DOV EFX EME EMR ETN
        EXPD FAST FDX FTV GD GE GEV GNRC GWW HII HON HUBB HWM IEX IR ITW J JBHT JCI LDOS LHX LII LMT LUV MAS
        MMM NDSN NOC NSC ODFL OTIS PAYX PCAR PH PNR PWR ROK ROL RSG RTX SNA SWK TDG TT TXT UAL UBER UNP UPS
        URI VLTO VRSK WAB WM XYL
    """,
    "Information Technology": """
        AAPL ACN ADBE ADI ADSK AKAM AMAT AMD ANET ANSS APH AVGO CDNS CDW CRM CRWD CSCO CTSH DDOG DELL ENPH
        EPAM FFIV FICO FSLR FTNT GDDY GEN GLW HPE HPQ IBM INTC INTU IT JBL JNPR KEYS KLAC LRCX MCHP MPWR
        MRVL MSFT MSI MU NOW NTAP NVDA NXPI ON ORCL PANW PLTR PTC QCOM QRVO ROP SMCI SNPS STX SWKS TDY TEL
        TER TRMB TXN TYL VRSN WDAY WDC ZBRA
    """,
    "Materials": """
        ALB AMCR APD AVY BALL CF CTVA DOW ECL FCX IFF IP LIN LYB MLM MOS NEM NUE PKG PPG SHW STLD SW VMC
    """,
    "Real Estate": """
        AMT ARE AVB BXP CBRE CCI CPT CSGP DLR DOC EQIX EQR ESS EXR FRT HST INVH IRM KIM MAA O PLD PSA REG
        SBAC SPG UDR VICI VTR WELL WY
    """,
    "Utilities": """
        AEE AEP AES ATO AWK CEG CMS CNP D DTE DUK ED EIX ES ETR EVRG EXC FE LNT NEE NI NRG PCG PEG PNW PPL
        SO SRE VST WEC XEL
    """,
}

# Symbols that list after the market's first session, with their first session.
LATE_LISTINGS = {
    "UBER": date(2019, 5, 10),
    "PLTR": date(2020, 9, 30),
    "ABNB": date(2020, 12, 10),
    "COIN": date(2021, 4, 14),
    "HOOD": date(2021, 7, 29),
    "CEG": date(2022, 2, 2),
    "GEHC": date(2023, 1, 4),
    "KVUE": date(2023, 5, 4),
    "VLTO": date(2023, 10, 4),
    "SOLV": date(2024, 4, 1),
    "GEV": date(2024, 4, 2),
}

SPLITS = {
    "AAPL": {date(2020, 8, 31): Fraction(4)},
    "AMZN": {date(2022, 6, 6): Fraction(20)},
    "AVGO": {date(2024, 7, 15): Fraction(10)},
    "CMG": {date(2024, 6, 26): Fraction(50)},
    "GE": {date(2021, 8, 2): Fraction(1, 8)},
    "GOOG": {date(2022, 7, 18): Fraction(20)},
    "GOOGL": {date(2022, 7, 18): Fraction(20)},
    # A spin-off: Yahoo writes it as a fractional split.
    "HON": {date(2025, 10, 30): Fraction(1061, 1000)},
    "NEE": {date(2020, 10, 27): Fraction(4)},
    "NFLX": {date(2025, 11, 17): Fraction(10)},
    "NVDA": {date(2021, 7, 20): Fraction(4), date(2024, 6, 10): Fraction(10)},
    "ODFL": {date(2020, 3, 25): Fraction(3, 2), date(2024, 3, 28): Fraction(2)},
    "TSLA": {date(2020, 8, 31): Fraction(5), date(2022, 8, 25): Fraction(3)},
    "WMT": {date(2024, 2, 26): Fraction(3)},
}

# Symbols of which nothing trades on some sessions: volume 0, all four prices the previous close.
THINLY_TRADED = frozenset({"NWS"})

NON_PAYERS = frozenset({"AMZN", "BRK.B", "TSLA", "UBER"})

FUNDS = frozenset({"QQQ", "SPY"})


@dataclass(frozen=True)
class Departure:
    """How a company leaves: last bar, date it leaves the index, date from which Yahoo has forgotten it."""

    last_session: date
    left_index: date
    forgotten: date | None


DEPARTURES = {
    "ATVI": Departure(date(2023, 10, 12), left_index=date(2023, 10, 18), forgotten=None),
    "SIVB": Departure(date(2023, 3, 9), left_index=date(2023, 3, 15), forgotten=date(2023, 3, 28)),
}


@dataclass(frozen=True)
class Listing:
    """One company or fund of the simulated market; dates are New York dates.

    `joined` and `left` bound its index membership (None: never, or still in).
    """

    symbol: str
    sector: str
    first_session: date
    last_session: date | None
    forgotten: date | None
    joined: date | None
    left: date | None
    splits: dict[date, Fraction]

    @property
    def name(self) -> str:
        """The company's name, which says that it is invented."""
        return f"Simulated {self.symbol}"

    def is_member(self, day: date) -> bool:
        """Whether the index holds it on `day`."""
        return self.joined is not None and self.joined <= day and (self.left is None or day < self.left)


def trait(symbol: str, name: str, choices: int) -> int:
    """A fixed pseudo-random number below `choices` for one trait of a symbol."""
    return zlib.crc32(f"{symbol}/{name}".encode()) % choices


def _joined(symbol: str, first_session: date) -> date:
    if first_session > FIRST_SESSION:
        return first_session + timedelta(days=180)
    return date(1990, 1, 1) + timedelta(days=trait(symbol, "joined", 9000))


def _listing(symbol: str, sector: str) -> Listing:
    first_session = LATE_LISTINGS.get(symbol, FIRST_SESSION)
    departure = DEPARTURES.get(symbol)
    return Listing(
        symbol=symbol,
        sector=sector,
        first_session=first_session,
        last_session=departure.last_session if departure else None,
        forgotten=departure.forgotten if departure else None,
        joined=None if symbol in FUNDS else _joined(symbol, first_session),
        left=departure.left_index if departure else None,
        splits=SPLITS.get(symbol, {}),
    )


def all_listings() -> dict[str, Listing]:
    """Every symbol the simulated market knows: index members past and present, and two funds."""
    members = [(symbol, sector) for sector, symbols in SECTORS.items() for symbol in symbols.split()]
    others = [
        ("ATVI", "Communication Services"),
        ("SIVB", "Financials"),
        *((fund, "") for fund in sorted(FUNDS)),
    ]
    return {symbol: _listing(symbol, sector) for symbol, sector in [*members, *others]}
