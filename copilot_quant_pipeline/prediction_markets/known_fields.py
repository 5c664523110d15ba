"""Fields that venues are known to send and that nothing reads, by the shape of the record that has them.

Here: their names, as recorded answers and published descriptions have them.
Not here: the fields that are read (each venue's module).

`copilot-quant venues` tells every other field as new; nothing else uses this.
"""

from __future__ import annotations

from collections.abc import Mapping

from copilot_quant_pipeline.prediction_markets.shapes import Shape

_UNUSED: Mapping[str, str] = {
    "GammaEvent": (
        "active archived automaticallyActive automaticallyResolved closed closedTime commentCount commentsEnabled "
        "competitive conditionId createdAt creationDate cumulativeMarkets cyom deploying description disqusThread "
        "enableNegRisk enableOrderBook endDate ended estimateValue eventDate eventMetadata eventWeek featured "
        "featuredImage gameId gmpChartMode icon id image liquidity liquidityAmm liquidityClob live negRisk "
        "negRiskAugmented new openInterest pendingDeployment period published_at requiresTranslation resolutionSource "
        "restricted score showAllOutcomes showMarketImages sortBy startDate startTime updatedAt updatedBy volume "
        "volume1mo volume1wk volume1yr volume24hr volumeNum"
    ),
    "GammaMarket": (
        "acceptingOrders approved archived automaticallyActive automaticallyResolved bestAsk bestBid clearBookOnStart "
        "clobRewards comboStatus commentsEnabled competitive creator customLiveness cyom deploying deployingTimestamp "
        "description disqusThread enableOrderBook endDateIso eventStartTime featured fee feeSchedule feeType "
        "feesEnabled fpmmLive funded gameId gameStartTime groupItemThreshold hasReviewedDates holdingRewardsEnabled "
        "icon image lastTradePrice line liquidity liquidityAmm liquidityClob liquidityNum lowerBound mailchimpTag "
        "makerBaseFee makerRebatesFeeShareBps manualActivation marketMakerAddress marketType negRisk negRiskOther "
        "negRiskRequestID new oneDayPriceChange oneHourPriceChange oneMonthPriceChange oneWeekPriceChange "
        "oneYearPriceChange orderMinSize orderPriceMinTickSize pagerDutyNotificationEnabled pendingDeployment "
        "questionID ready readyForCron requiresTranslation resolutionSource resolvedBy restricted rewardsMaxSpread "
        "rewardsMinSize rfqEnabled secondsDelay sentDiscord seriesColor showGmpOutcome showGmpSeries sportsMarketType "
        "spread startDateIso submitted_by takerBaseFee twitterCardImage twitterCardLastRefreshed "
        "twitterCardLastValidated twitterCardLocation umaBond umaEndDateIso umaResolutionStatuses umaReward updatedBy "
        "upperBound volume1mo volume1moAmm volume1moClob volume1wk volume1wkAmm volume1wkClob volume1yr volume1yrAmm "
        "volume1yrClob volume24hr volume24hrAmm volume24hrClob volumeAmm volumeClob wideFormat"
    ),
    "GammaSeries": (
        "active archived closed commentCount createdAt featured icon id image liquidity recurrence "
        "requiresTranslation restricted seriesType title updatedAt volume volume24hr"
    ),
    "KalshiCandle": "open_interest volume",
    "KalshiCutoff": "market_positions_last_updated_ts orders_updated_ts trades_created_ts",
    "KalshiListed": (
        "available_on_brokers collateral_return_type exchange_index last_updated_ts mutually_exclusive "
        "settlement_sources strike_period sub_title"
    ),
    "KalshiMarket": (
        "can_close_early created_time custom_strike early_close_condition exchange_index expected_expiration_time "
        "expiration_time expiration_value fractional_trading_enabled is_provisional last_price last_price_dollars "
        "latest_expiration_time liquidity liquidity_dollars mve_collection_ticker mve_selected_legs no_ask "
        "no_ask_dollars no_bid no_bid_dollars no_sub_title notional_value notional_value_dollars occurrence_datetime "
        "open_interest open_interest_fp previous_price previous_price_dollars previous_yes_ask "
        "previous_yes_ask_dollars previous_yes_bid previous_yes_bid_dollars price_level_structure price_ranges "
        "response_price_units rules_primary rules_secondary settlement_timer_seconds strike_type tick_size "
        "updated_time volume_24h volume_24h_fp yes_ask yes_ask_dollars yes_ask_size_fp yes_bid yes_bid_dollars "
        "yes_bid_size_fp"
    ),
    "KalshiQuotes": "close high high_dollars low low_dollars open open_dollars",
    "KalshiTrades": "close high low max mean mean_dollars min open previous previous_dollars",
    "ManifoldBet": "isCancelled isFilled orderAmount amount contractId id isRedemption outcome shares userId",
    "ManifoldListed": (
        "createdTime creatorId creatorName creatorUsername mechanism probability question resolution resolutionTime "
        "slug token uniqueBettorCount url volume24Hours"
    ),
    "ManifoldMarket": (
        "creatorId creatorName creatorUsername mechanism probability textDescription token uniqueBettorCount url "
        "volume24Hours"
    ),
    "MetaculusCategory": "id name",
    "MetaculusForecast": (
        "end_time forecast_values forecaster_count histogram interval_lower_bounds interval_upper_bounds means"
    ),
    "MetaculusPost": "author_username forecasts_count nr_forecasters slug status",
    "MetaculusQuestion": "aggregations cp_reveal_time default_aggregation_method id title",
    "PredictItListed": "image shortName timeStamp url",
    "PredictItOffered": "displayOrder image lastClosePrice shortName status",
}


def known_unused(shape: type[Shape]) -> frozenset[str]:
    """The fields that records of this shape are known to have besides the declared ones."""
    of = [one.__name__ for one in shape.__mro__]
    return frozenset(name for one in of for name in _UNUSED.get(one, "").split())
